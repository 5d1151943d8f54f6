"""What `./dev` runs beside the usual tools."""
