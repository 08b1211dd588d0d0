"""If, Loop, Scan and model functions: compiled bodies, and calls that hold them whole."""
