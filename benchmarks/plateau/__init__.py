"""Is the plateau what theory says, and do networks leave it when they are predicted to? See docs/results/2026-11-20-plateau.md."""
