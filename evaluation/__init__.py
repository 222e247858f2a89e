"""Judge tools that say why a recurrent network does not learn: see evaluation/README.md."""
