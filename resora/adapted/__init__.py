"""Adapted models: how a model was adapted, and its trained part in memory and in files."""

from resora.adapted.applied import Applied, applied_to
from resora.adapted.files import load, save
from resora.adapted.state import adapter_state, load_adapter_state

__all__ = ["Applied", "adapter_state", "applied_to", "load", "load_adapter_state", "save"]
