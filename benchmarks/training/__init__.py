"""The two-stage trainer and the input pipeline on the device, shared by all runners."""
