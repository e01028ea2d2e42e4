"""The words of the embedded retrieval world, and of the broader one that its BERT is pre-trained on.

A word is written with ``|`` where the vocabulary cuts it: ``um|brella`` becomes the pieces ``um`` and
``##brella``. The first word of a tuple names the meaning; the others are its synonyms.
"""

from __future__ import annotations

from dataclasses import dataclass

Words = tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """Something that is done, in the two forms that captions use.

    Attributes:
        forms: Pairs of third person and participle, such as ``("sits", "sitting")``.
        objects: Categories that it is done to; none for what needs no object.
        animals: Whether animals do it too.
    """

    forms: tuple[tuple[str, str], ...]
    objects: Words = ()
    animals: bool = False


@dataclass(frozen=True)
class Place:
    """Where a scene is.

    Attributes:
        phrases: How it is said.
        things: Categories that are found there.
    """

    phrases: Words
    things: Words


@dataclass(frozen=True)
class World:
    """Everything that scenes are made of and captions are made with.

    Attributes:
        people: Category -> words.
        animals: Category -> words.
        things: Category -> words.
        colours: Colour -> words.
        sizes: Size -> words; a size without words is never mentioned.
        patterns: Pattern -> words; the same.
        garments: What people wear -> words.
        actions: Action -> verb without an object.
        interactions: Interaction -> verb with an object.
        relations: Relation in space -> phrases.
        places: Place -> phrases and things.
    """

    people: dict[str, Words]
    animals: dict[str, Words]
    things: dict[str, Words]
    colours: dict[str, Words]
    sizes: dict[str, Words]
    patterns: dict[str, Words]
    garments: dict[str, Words]
    actions: dict[str, Verb]
    interactions: dict[str, Verb]
    relations: dict[str, Words]
    places: dict[str, Place]

    @property
    def nouns(self) -> dict[str, Words]:
        """Every category with its words."""
        return self.people | self.animals | self.things


def _named(*groups: str) -> dict[str, Words]:
    """Read ``"man guy fell|ow"`` as the category ``man`` and its words."""
    return {words.split()[0].replace("|", ""): tuple(words.split()) for words in groups}


def _forms(*pairs: str) -> tuple[tuple[str, str], ...]:
    """Read ``"sit|s sit|ting"`` as a pair of forms."""
    return tuple((pair.split()[0], pair.split()[1]) for pair in pairs)


PEOPLE = _named(
    "man guy fell|ow gent|leman",
    "woman lady fe|male",
    "boy lad young|ster",
    "girl lass school|girl",
    "farmer field|hand grow|er",
)
ANIMALS = _named(
    "dog puppy hound ter|rier",
    "cat kitten tab|by",
    "horse pony mare",
    "bird pigeon spar|row",
    "sheep lamb ewe",
    "cow calf bul|lock",
)
THINGS = _named(
    "car sedan auto|mobile",
    "bicycle bike cy|cle",
    "truck lorry pick|up",
    "boat canoe row|boat",
    "cart wagon wheel|barrow",
    "skate|board board",
    "ball foot|ball sp|here",
    "um|brella para|sol",
    "bench seat pew",
    "table desk count|er",
    "chair stool arm|chair",
    "cup mug gob|let",
    "bottle flask jar",
    "book magazine note|book",
    "bag back|pack sack",
    "kite",
    "guitar ban|jo",
    "box crate car|ton",
    "ladder step|ladder",
    "basket ham|per",
    "lamp lan|tern light",
    "bucket pail",
    "tree oak palm",
    "tent can|opy",
    "drum",
    "fence rail|ing",
    "statue sculpt|ure",
    "pan skil|let pot",
)
COLOURS = _named(
    "red scar|let crim|son",
    "blue navy az|ure",
    "green olive emer|ald",
    "yellow golden lem|on",
    "black dark jet",
    "white pale snow|y",
    "brown tan chest|nut",
    "orange am|ber",
    "purple viol|et lil|ac",
    "grey silver ash|en",
)
SIZES = {"small": ("small", "little", "tin|y"), "medium": (), "big": ("big", "large", "huge")}
PATTERNS: dict[str, Words] = {
    "plain": (),
    "striped": ("strip|ed", "band|ed"),
    "spotted": ("spot|ted", "dot|ted"),
    "shiny": ("shin|y", "gloss|y"),
    "old": ("old", "worn", "bat|tered"),
}
GARMENTS = _named(
    "shirt top blo|use",
    "hat cap bon|net",
    "jacket coat par|ka",
    "apron over|all",
)
ACTIONS = {
    "run": Verb(_forms("run|s run|ning", "race|s rac|ing", "jog|s jog|ging"), animals=True),
    "walk": Verb(_forms("walk|s walk|ing", "stroll|s stroll|ing"), animals=True),
    "sit": Verb(_forms("sit|s sit|ting", "rest|s rest|ing"), animals=True),
    "stand": Verb(_forms("stand|s stand|ing", "wait|s wait|ing"), animals=True),
    "jump": Verb(_forms("jump|s jump|ing", "leap|s leap|ing", "hop|s hop|ping"), animals=True),
    "sleep": Verb(_forms("sleep|s sleep|ing", "nap|s nap|ping", "doze|s doz|ing"), animals=True),
    "eat": Verb(_forms("eat|s eat|ing", "chew|s chew|ing", "munch|es munch|ing"), animals=True),
    "shout": Verb(_forms("shout|s shout|ing", "yell|s yell|ing", "call|s call|ing")),
}
_HELD = ("ball", "umbrella", "cup", "bottle", "book", "bag", "kite", "guitar", "box", "basket")
INTERACTIONS = {
    "hold": Verb(
        _forms("hold|s hold|ing", "carr|ies carry|ing", "grip|s grip|ping"),
        (*_HELD, "lamp", "bucket", "pan", "drum"),
    ),
    "ride": Verb(
        _forms("ride|s rid|ing", "steer|s steer|ing"),
        ("bicycle", "horse", "skateboard", "boat", "cart", "truck"),
    ),
    "push": Verb(
        _forms("push|es push|ing", "shove|s shov|ing"),
        ("cart", "bicycle", "box", "car", "table", "chair", "boat"),
    ),
    "chase": Verb(
        _forms("chase|s chas|ing", "follow|s follow|ing", "hunt|s hunt|ing"),
        ("ball", "dog", "cat", "bird", "sheep", "cow", "horse", "man", "boy", "girl"),
        animals=True,
    ),
    "watch": Verb(
        _forms("watch|es watch|ing", "eye|s eye|ing"),
        ("dog", "cat", "bird", "horse", "woman", "man", "boy", "girl", "kite", "statue", "boat"),
        animals=True,
    ),
    "paint": Verb(
        _forms("paint|s paint|ing", "brush|es brush|ing"),
        ("fence", "bench", "chair", "table", "boat", "box", "ladder", "statue", "cart"),
    ),
    "feed": Verb(
        _forms("feed|s feed|ing", "pet|s pet|ting"),
        ("dog", "cat", "horse", "bird", "sheep", "cow"),
    ),
}
RELATIONS: dict[str, Words] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "behind": ("behind", "in back of"),
    "front": ("in front of", "before"),
    "near": ("next to", "near", "be|side", "close to"),
}
PLACES = {
    "street": Place(
        ("on the street", "on a road", "along the side|walk"),
        ("car", "bicycle", "truck", "skateboard", "umbrella", "bench", "bag", "lamp", "statue"),
    ),
    "beach": Place(
        ("at the beach", "on the sand", "by the sea|shore"),
        ("boat", "ball", "umbrella", "kite", "chair", "bucket", "tent", "bottle", "bag"),
    ),
    "park": Place(
        ("in the park", "on the grass", "in a gar|den"),
        ("bench", "tree", "ball", "kite", "bicycle", "statue", "book", "guitar", "skateboard"),
    ),
    "kitchen": Place(
        ("in the kitchen", "by the stove", "by the sink"),
        ("table", "chair", "cup", "bottle", "pan", "basket", "lamp", "box", "book"),
    ),
    "farm": Place(
        ("on the farm", "in a field", "by the barn"),
        ("cart", "fence", "bucket", "truck", "tree", "ladder", "basket", "box", "sheep", "cow"),
    ),
    "market": Place(
        ("at the market", "by the stall|s", "in the square"),
        ("cart", "basket", "bag", "box", "table", "umbrella", "drum", "guitar", "tent", "bottle"),
    ),
    "workshop": Place(
        ("in the work|shop", "in a shed", "in the gar|age"),
        ("ladder", "box", "bucket", "lamp", "bench", "chair", "car", "bicycle", "pan", "table"),
    ),
    "camp": Place(
        ("at the camp", "in the woods", "by the fire"),
        ("tent", "pan", "cup", "tree", "guitar", "drum", "lamp", "boat", "book", "chair"),
    ),
}
FLICKR = World(
    PEOPLE,
    ANIMALS,
    THINGS,
    COLOURS,
    SIZES,
    PATTERNS,
    GARMENTS,
    ACTIONS,
    INTERACTIONS,
    RELATIONS,
    PLACES,
)

# The broader world. Of the benchmark's nouns and colours it has the first two words, so that some of
# the benchmark's words are new to the pre-trained model, as they are to any.
_KNOWN_WORDS = 2


def _known(words: dict[str, Words]) -> dict[str, Words]:
    return {name: synonyms[:_KNOWN_WORDS] for name, synonyms in words.items()}


_MORE_PEOPLE = _named(
    "doctor nurse", "soldier guard", "sing|er danc|er", "baby toddler", "cook chef"
)
_MORE_ANIMALS = _named(
    "pig hog", "goat", "fox wolf", "rabbit hare", "duck goose", "bear", "monkey ape"
)
_MORE_THINGS = _named(
    "train tram",
    "bus coach",
    "plane jet",
    "clock watch",
    "door gate",
    "window pane",
    "phone",
    "camera",
    "candle torch",
    "pillow cushion",
    "bed sofa",
    "shelf cabinet",
    "plate dish",
    "spoon fork",
    "bread cake",
    "apple pear",
    "flower rose",
    "rock stone",
    "flag banner",
    "rope chain",
    "hammer saw",
    "piano violin",
    "bridge",
    "tower",
    "kettle",
    "mirror",
)
_MORE_COLOURS = _named("pink", "turquoise", "beige cream")
_MORE_ACTIONS = {
    "swim": Verb(_forms("swim|s swim|ming", "div|es div|ing"), animals=True),
    "laugh": Verb(_forms("laugh|s laugh|ing", "smile|s smil|ing")),
    "fall": Verb(_forms("fall|s fall|ing", "trip|s trip|ping"), animals=True),
    "dance": Verb(_forms("dance|s danc|ing", "sing|s sing|ing")),
}
_MORE_INTERACTIONS = {
    "wash": Verb(
        _forms("wash|es wash|ing", "clean|s clean|ing"),
        ("car", "plate", "window", "dog", "cup", "pan", "bus", "spoon", "pig"),
    ),
    "throw": Verb(
        _forms("throw|s throw|ing", "toss|es toss|ing"),
        ("ball", "rock", "rope", "pillow", "apple", "bread", "bag"),
    ),
    "fix": Verb(
        _forms("fix|es fix|ing", "mend|s mend|ing"),
        ("clock", "car", "train", "door", "chair", "camera", "piano", "bicycle", "fence"),
    ),
}
_MORE_PLACES = {
    "station": Place(
        ("at the station", "on the platform"),
        ("train", "bus", "clock", "bag", "bench", "flag", "lamp", "phone", "box", "door"),
    ),
    "bedroom": Place(
        ("in the bedroom", "in a room"),
        ("bed", "pillow", "window", "lamp", "shelf", "mirror", "book", "clock", "chair", "candle"),
    ),
    "hill": Place(
        ("on the hill", "up the mountain", "by the river"),
        ("rock", "bridge", "tower", "flag", "tree", "rope", "tent", "camera", "flower", "fence"),
    ),
    "hall": Place(
        ("in the hall", "on the stage"),
        ("piano", "candle", "chair", "mirror", "flower", "door", "guitar", "drum", "table"),
    ),
    "yard": Place(
        ("in the yard", "behind the house"),
        ("hammer", "rope", "ladder", "bucket", "cart", "kettle", "ball", "bicycle", "plane"),
    ),
    "cafe": Place(
        ("at the cafe", "in a shop"),
        ("plate", "spoon", "bread", "apple", "cup", "kettle", "table", "bottle", "phone", "basket"),
    ),
}


def _with_more(known: dict[str, Verb], more: dict[str, Verb]) -> dict[str, Verb]:
    """Let the verbs that are known take the new animals as well."""
    animals = tuple(_MORE_ANIMALS)
    widened = {
        name: Verb(verb.forms[:_KNOWN_WORDS], (*verb.objects, *animals), verb.animals)
        if name in ("chase", "watch", "feed")
        else Verb(verb.forms[:_KNOWN_WORDS], verb.objects, verb.animals)
        for name, verb in known.items()
    }
    return widened | more


BROAD = World(
    _known(PEOPLE) | _MORE_PEOPLE,
    _known(ANIMALS) | _MORE_ANIMALS,
    _known(THINGS) | _MORE_THINGS,
    _known(COLOURS) | _MORE_COLOURS,
    SIZES,
    PATTERNS,
    _known(GARMENTS) | _named("dress gown", "scarf", "mask"),
    _with_more(ACTIONS, _MORE_ACTIONS),
    _with_more(INTERACTIONS, _MORE_INTERACTIONS),
    RELATIONS,
    PLACES | _MORE_PLACES,
)
