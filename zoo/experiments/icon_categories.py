"""One list of categories for icons of several sets, by the vote of those sets that have categories of their own."""

import collections

from icon_names import Styles, normalised
from icon_sets import EMOJI, read_set

VOTERS = ("mdi", "ri", "iconoir", "solar", "fa7-solid", "material-symbols")
# Ours → what the voters call it. What stands nowhere here votes for nothing.
CATEGORIES = {
    "Animals & nature": ("Animal", "Animals", "Nature", "Agriculture", "Spring", "Autumn", "Astronomy"),
    "Arrows & navigation": ("Arrow", "Arrows", "Arrows Action", "Navigation"),
    "Buildings & home": (
        "Buildings", "Building", "Home", "Home Automation", "Household", "Hotel", "Places", "Construction",
    ),
    "Devices": (
        "Device", "Devices", "Device / Tech", "Cellphone / Phone", "Hardware", "Computers", "Printer", "Battery",
        "Connectivity", "IT",
    ),
    "Editing & text": (
        "Editor", "Editors", "Edit / Modify", "Text / Content / Format", "Text", "Text Formatting", "Typography",
        "Writing", "Alpha / Numeric",
    ),
    "Design & shapes": ("Design", "Design Tools", "Drawing / Art", "Shape", "Shapes", "Vector", "Color", "Layout"),
    "Development": ("Development", "Developer / Languages", "Code", "Git", "Database", "Cloud"),
    "Files": ("Document", "Docs", "Files / Folders", "Files", "Folders", "Notes", "List"),
    "Food & drink": ("Food", "Food / Drink", "Beverage", "Fruits & Vegetables"),
    "Games & sports": (
        "Game & Sports", "Gaming", "Gaming / RPG", "Sport", "Sports", "Games", "Chess", "Activities", "Fitness",
        "Holiday", "Tabletop Gaming",
    ),
    "Health & science": (
        "Health & Medical", "Medical", "Medical / Hospital", "Medicine", "Health", "Health / Beauty", "Pharmacy",
        "Science", "Math", "Mathematics",
    ),
    "Media": (
        "Media", "Audio", "Audio & Video", "Music", "Video", "Video / Movie", "Photography", "Images",
        "Photos and Videos",
    ),
    "Messages": ("Communication", "Messages", "Call", "Chat", "Notification", "Notifications", "Communicate"),
    "Money & shopping": (
        "Finance", "Business", "Money", "Shopping", "Banking", "Currency", "Payments & Shopping", "Marketing",
    ),
    "People": (
        "User & Faces", "Users", "Users & People", "Account / User", "People / Family", "Faces", "Hands", "Emojis",
        "Emoji", "Gestures", "Identity", "Clothing",
    ),
    "Security": ("Security", "Lock", "Privacy"),
    "System": ("System", "Settings", "UI", "Interfaces", "Actions", "UI Actions", "Toggle", "Status", "Alert", "Form"),
    "Time": ("Date / Time", "Time", "Date & Time"),
    "Travel & maps": (
        "Map", "Maps", "Transport", "Transportation + Road", "Transportation + Other", "Transportation + Flying",
        "Transportation + Water", "Transit", "Travel", "Vehicles", "Automotive", "Moving",
        "Geographic Information System",
    ),
    "Weather": ("Weather",),
}  # fmt: skip
EMOJI_CATEGORIES = {
    "Activities": "Games & sports",
    "Animals & Nature": "Animals & nature",
    "Food & Drink": "Food & drink",
    "Objects": "Objects",
    "People & Body": "People",
    "Smileys & Emotion": "People",
    "Travel & Places": "Travel & maps",
}


def categories(package):
    """A function (set, name, group) → category, empty where no voter knows the name."""
    ours = {theirs: name for name, group in CATEGORIES.items() for theirs in group}
    votes = collections.defaultdict(collections.Counter)
    for prefix in VOTERS:
        collection = read_set(package, prefix)
        styles = Styles.of(collection)
        for theirs, names in collection["categories"].items():
            for group in {normalised(name, styles) for name in names} if theirs in ours else ():
                votes[group][ours[theirs]] += 1
    emoji = {prefix: _emoji(package, prefix) for prefix in EMOJI}

    def category(prefix, name, group):
        if prefix in EMOJI:
            return emoji[prefix].get(name, "")
        most = votes[group].most_common(1)
        return most[0][0] if most else ""

    return category


def _emoji(package, prefix):
    try:
        listed = read_set(package, prefix).get("categories", {})
    except ValueError:
        return {}  # not in this package
    return {name: EMOJI_CATEGORIES.get(theirs, "") for theirs, names in listed.items() for name in names}
