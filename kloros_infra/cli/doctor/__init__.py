"""What `kloros-infra doctor` asks of the world, and how it shows what was found."""
