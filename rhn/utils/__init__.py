"""What all packages share: results, tables, figures, commands, files, validation, progress."""
