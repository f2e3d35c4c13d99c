"""The commands, one file a family; `cli/__init__.py` names them all and loads them on use."""
