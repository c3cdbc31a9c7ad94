"""What lets frameworks keep their sessions here: one package each, behind an extra of the same name."""
