"""What people call the things: names that mean the same, the plainest first, and how they are counted."""

NAMES: dict[str, tuple[str, ...]] = {
    "house": ("house", "cottage", "cabin", "home", "small house"),
    "castle": ("castle", "palace", "fortress", "old castle"),
    "lighthouse": ("lighthouse", "striped lighthouse", "light tower"),
    "windmill": ("windmill", "mill", "old windmill", "dutch windmill"),
    "church": ("church", "chapel", "village church"),
    "pagoda": ("pagoda", "temple", "japanese temple", "chinese temple"),
    "igloo": ("igloo", "ice house", "snow hut"),
    "tent": ("tent", "camping tent", "camp"),
    "pyramid": ("pyramid", "great pyramid", "stone pyramid", "ancient pyramid"),
    "sailboat": ("sailboat", "boat", "sailing boat", "yacht"),
    "ship": ("ship", "steamship", "steamer", "big ship"),
    "submarine": ("submarine",),
    "car": ("car", "small car", "automobile"),
    "bus": ("bus", "school bus"),
    "train": ("train", "steam train", "locomotive", "steam engine"),
    "tractor": ("tractor", "farm tractor"),
    "airplane": ("airplane", "plane", "aeroplane", "jet"),
    "rocket": ("rocket", "space rocket", "spaceship"),
    "balloon": ("hot air balloon", "balloon", "air balloon"),
    "ufo": ("ufo", "flying saucer", "alien ship"),
    "horse": ("horse", "pony", "standing horse"),
    "deer": ("deer", "stag", "deer with antlers", "reindeer"),
    "camel": ("camel", "desert camel"),
    "elephant": ("elephant", "gray elephant", "big elephant"),
    "giraffe": ("giraffe", "tall giraffe"),
    "cow": ("cow", "spotted cow", "milk cow"),
    "sheep": ("sheep", "lamb", "woolly sheep"),
    "bear": ("bear", "teddy bear", "sitting bear"),
    "rabbit": ("rabbit", "bunny", "hare"),
    "fox": ("fox", "orange fox"),
    "cat": ("cat", "kitten", "sitting cat", "kitty"),
    "dog": ("dog", "puppy", "good dog"),
    "duck": ("duck", "yellow duck", "duckling"),
    "swan": ("swan", "white swan"),
    "penguin": ("penguin",),
    "owl": ("owl", "brown owl", "wise owl"),
    "bird": ("bird", "seagull", "gull", "flying bird", "white bird"),
    "whale": ("whale", "blue whale", "big whale"),
    "fish": ("fish", "jumping fish", "clown fish"),
    "turtle": ("turtle", "tortoise", "green turtle"),
    "butterfly": ("butterfly", "moth"),
    "tree": ("tree", "lone tree", "old tree", "oak"),
    "pine": ("pine tree", "pine", "fir tree", "fir", "christmas tree"),
    "palm": ("palm tree", "palm", "coconut palm"),
    "cactus": ("cactus", "saguaro", "tall cactus"),
    "sunflower": ("sunflower", "big sunflower"),
    "tulip": ("tulip", "flower"),
    "mushroom": ("mushroom", "toadstool"),
    "apple": ("apple", "ripe apple"),
    "pear": ("pear", "ripe pear"),
    "banana": ("banana", "yellow banana"),
    "cherries": ("cherries", "cherry"),
    "strawberry": ("strawberry", "ripe strawberry"),
    "watermelon": ("watermelon", "slice of watermelon", "melon"),
    "pumpkin": ("pumpkin", "orange pumpkin", "halloween pumpkin"),
    "vase": ("vase", "vase with flowers", "vase of flowers", "flower vase", "bouquet"),
    "teapot": ("teapot", "tea pot", "kettle"),
    "cup": ("cup", "cup of coffee", "coffee", "mug", "cup of tea"),
    "candle": ("candle", "burning candle", "lit candle"),
    "book": ("book", "open book"),
    "clock": ("clock", "alarm clock"),
    "guitar": ("guitar", "acoustic guitar"),
    "umbrella": ("umbrella", "parasol", "beach umbrella"),
    "kite": ("kite", "flying kite"),
    "lantern": ("lantern", "lamp", "glowing lantern"),
    "snowman": ("snowman",),
    "ball": ("ball", "beach ball"),
    "gift": ("gift", "present", "gift box"),
    "cake": ("cake", "birthday cake"),
}
_PLURALS: dict[str, str] = {
    "sheep": "sheep", "fish": "fish", "deer": "deer", "reindeer": "reindeer", "butterfly": "butterflies",
    "snowman": "snowmen", "strawberry": "strawberries", "cherries": "cherries", "cherry": "cherries", "bus": "buses",
    "church": "churches", "fox": "foxes", "fortress": "fortresses", "cactus": "cactuses", "bunny": "bunnies",
    "puppy": "puppies", "kitty": "kitties", "pony": "ponies", "gift box": "gift boxes",
}  # fmt: skip


def plural(name: str) -> str:
    """The name of several: the last word changes, or the one before "of" or "with"."""
    for joint in (" of ", " with "):
        if joint in name:
            first, rest = name.split(joint, 1)
            return plural(first) + joint + rest
    if name in _PLURALS:
        return _PLURALS[name]
    *before, last = name.split(" ")
    return " ".join([*before, _PLURALS.get(last, last + "s")])
