"""What any training of this toolkit needs, and nothing about chorales or texts: K models as one program, files, seeds, graphs."""
