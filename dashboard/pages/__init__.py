"""One file per page: a layout, and the callbacks that fill it."""
