"""Where the data of the specimens come from: a module per data set, and the official sources of those that no package brings."""
