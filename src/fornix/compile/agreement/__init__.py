"""Which extents the inputs of a node have to agree in, for kernels to take them."""
