"""Extents: as symbols of a program, as what data tell, as numbers of a run and all that follows."""
