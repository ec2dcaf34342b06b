"""Every specimen of the zoo, one recipe each, by the kind of input it reads. Imports no framework."""

from zoo.specimens.images import IMAGES
from zoo.specimens.planted import PLANTED
from zoo.specimens.series import SERIES
from zoo.specimens.tables import TABLES
from zoo.specimens.texts import TEXTS

FIRST = ("digits-cnn", "vowels-rnn", "licence-transformer", "loan-mlp")  # one of each kind, small: where a newcomer starts
_BY_NAME = {recipe.name: recipe for recipe in (*TABLES, *IMAGES, *TEXTS, *SERIES, *PLANTED)}
RECIPES = {name: _BY_NAME[name] for name in dict.fromkeys((*FIRST, *_BY_NAME))}
