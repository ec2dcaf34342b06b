"""Every specimen of the zoo, one recipe each, by the kind of input it reads. Imports no framework."""

from zoo.specimens.images import IMAGES
from zoo.specimens.planted import PLANTED
from zoo.specimens.series import SERIES
from zoo.specimens.tables import TABLES
from zoo.specimens.texts import TEXTS

RECIPES = {recipe.name: recipe for recipe in (*TABLES, *IMAGES, *TEXTS, *SERIES, *PLANTED)}
