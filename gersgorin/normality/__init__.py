"""How far a matrix is from normal, and so how far its spectrum alone misleads: pseudospectra, departure, radii, Kreiss constant."""
