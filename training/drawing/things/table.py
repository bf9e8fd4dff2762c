"""`THINGS`: every thing with its drawing, where it is at home, its colors and its width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from training.drawing.canvas import Brush, Color
from training.drawing.things import animals, buildings, objects, plants, vehicles

Home = Literal["ground", "water", "air", "table"]
Draw = Callable[[Brush, Color, bool], None]


@dataclass(frozen=True)
class Thing:
    """One thing.

    Attributes:
        home: Where it stands: "table" is anything that also stands on the ground.
        colors: The colors it comes in, its usual one first; empty where it has one look.
        width: Its widest part, in units of its height.
    """

    draw: Draw
    home: Home
    colors: tuple[str, ...] = ()
    width: float = 1.1


THINGS: dict[str, Thing] = {
    "house": Thing(buildings.house, "ground", ("red", "blue", "green", "orange"), 1.34),
    "castle": Thing(buildings.castle, "ground", ("blue", "red", "purple", "green"), 1.2),
    "lighthouse": Thing(buildings.lighthouse, "ground", ("red", "blue", "green")),
    "windmill": Thing(buildings.windmill, "ground", ("red", "blue", "brown")),
    "church": Thing(buildings.church, "ground", ("blue", "red", "brown")),
    "pagoda": Thing(buildings.pagoda, "ground", ("red", "green", "blue")),
    "igloo": Thing(buildings.igloo, "ground", width=1.34),
    "tent": Thing(buildings.tent, "ground", ("orange", "red", "yellow", "blue", "green"), 1.4),
    "pyramid": Thing(buildings.pyramid, "ground", width=1.58),
    "sailboat": Thing(vehicles.sailboat, "water", ("white", "red", "yellow", "blue", "orange")),
    "ship": Thing(vehicles.ship, "water", ("red", "blue", "green"), 1.63),
    "submarine": Thing(vehicles.submarine, "water", ("yellow", "red", "green"), 1.58),
    "car": Thing(vehicles.car, "ground", ("red", "blue", "yellow", "green"), 1.52),
    "bus": Thing(vehicles.bus, "ground", ("red", "yellow", "blue"), 1.6),
    "train": Thing(vehicles.train, "ground", ("green", "red", "blue"), 1.74),
    "tractor": Thing(vehicles.tractor, "ground", ("red", "green", "blue"), 1.38),
    "airplane": Thing(vehicles.airplane, "air", ("blue", "red", "yellow"), 1.78),
    "rocket": Thing(vehicles.rocket, "air", ("red", "blue", "orange")),
    "balloon": Thing(vehicles.balloon, "air", ("red", "yellow", "blue", "orange", "pink", "purple")),
    "ufo": Thing(vehicles.ufo, "air", width=1.48),
    "horse": Thing(animals.horse, "ground", ("brown", "white", "black"), 1.36),
    "deer": Thing(animals.deer, "ground"),
    "camel": Thing(animals.camel, "ground", width=1.21),
    "elephant": Thing(animals.elephant, "ground", width=1.56),
    "giraffe": Thing(animals.giraffe, "ground"),
    "cow": Thing(animals.cow, "ground", width=1.29),
    "sheep": Thing(animals.sheep, "ground", width=1.16),
    "bear": Thing(animals.bear, "ground", ("brown", "white", "black")),
    "rabbit": Thing(animals.rabbit, "ground", ("white", "brown", "gray")),
    "fox": Thing(animals.fox, "ground", width=1.67),
    "cat": Thing(animals.cat, "table", ("orange", "black", "white", "gray")),
    "dog": Thing(animals.dog, "ground", ("brown", "white", "black"), 1.26),
    "duck": Thing(animals.duck, "water", width=1.38),
    "swan": Thing(animals.swan, "water", width=1.4),
    "penguin": Thing(animals.penguin, "ground"),
    "owl": Thing(animals.owl, "table"),
    "bird": Thing(animals.bird, "air", width=1.64),
    "whale": Thing(animals.whale, "water", width=1.72),
    "fish": Thing(animals.fish, "water", ("orange", "blue", "red"), 1.22),
    "turtle": Thing(animals.turtle, "ground", width=1.59),
    "butterfly": Thing(animals.butterfly, "air", ("orange", "blue", "purple", "pink"), 1.32),
    "tree": Thing(plants.tree, "ground", ("green", "golden", "pink", "red")),
    "pine": Thing(plants.pine, "ground"),
    "palm": Thing(plants.palm, "ground"),
    "cactus": Thing(plants.cactus, "ground"),
    "sunflower": Thing(plants.sunflower, "table"),
    "tulip": Thing(plants.tulip, "table", ("red", "yellow", "pink", "purple")),
    "mushroom": Thing(plants.mushroom, "table", ("red", "brown", "purple")),
    "apple": Thing(objects.apple, "table", ("red", "green", "yellow")),
    "pear": Thing(objects.pear, "table"),
    "banana": Thing(objects.banana, "table", width=1.49),
    "cherries": Thing(objects.cherries, "table"),
    "strawberry": Thing(objects.strawberry, "table"),
    "watermelon": Thing(objects.watermelon, "table", width=1.6),
    "pumpkin": Thing(objects.pumpkin, "table", width=1.24),
    "vase": Thing(objects.vase, "table", ("blue", "white", "red", "green")),
    "teapot": Thing(objects.teapot, "table", ("blue", "red", "green", "white"), 1.58),
    "cup": Thing(objects.cup, "table", ("blue", "red", "yellow", "white"), 1.25),
    "candle": Thing(objects.candle, "table", ("white", "red", "blue")),
    "book": Thing(objects.book, "table", ("red", "blue", "green"), 1.56),
    "clock": Thing(objects.clock, "table", ("red", "blue", "green")),
    "guitar": Thing(objects.guitar, "table"),
    "umbrella": Thing(objects.umbrella, "ground", ("red", "blue", "yellow", "green"), 1.28),
    "kite": Thing(objects.kite, "air", ("red", "blue", "yellow", "green")),
    "lantern": Thing(objects.lantern, "table", ("red", "black", "blue")),
    "snowman": Thing(objects.snowman, "ground", ("red", "blue", "green")),
    "ball": Thing(objects.ball, "table", ("red", "blue", "green", "yellow")),
    "gift": Thing(objects.gift, "table", ("red", "blue", "green", "purple")),
    "cake": Thing(objects.cake, "table", ("pink", "white", "blue"), 1.32),
}
