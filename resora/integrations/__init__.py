"""The penalty in other people's trainers. Nothing here imports a trainer; each module says what it fits."""
