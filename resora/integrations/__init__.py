"""The penalty in trainers of other libraries. No module imports its trainer; each says which one it fits."""
