"""Language models: how they are trained, evaluated and read, on words or characters."""
