"""What a session tells of itself: which kernels, how much time and memory, which values inside."""
