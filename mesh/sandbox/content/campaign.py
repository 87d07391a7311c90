"""An e-mail campaign, craft by craft, from nothing but the facts of a brief."""

from collections.abc import Callable, Sequence

from mesh.sandbox.content.brief import Brief
from mesh.sandbox.content.crafts import Craft

# What a feature does for its reader, by a word of its name; says nothing that the word does not.
_BENEFITS = {
    "complet": "less boilerplate, so that you stay in the flow",
    "test": "find regressions before your users do",
    "performance": "see what is slow, and make it fast",
    "secur": "sleep well, with fewer surprises",
    "report": "see what works without building reports by hand",
    "analy": "see what works, and decide on evidence",
    "integrat": "works with what you already use",
    "collab": "everybody on the same page",
    "automat": "leave the repetitive work to it",
}
_OTHERWISE = ("more done in less time", "one thing less to worry about", "made for the way you work")
_SUBJECT_LIMIT = 50  # characters; phones cut later ones


def content(brief: Brief) -> str:
    """Subject lines, preheader, body, call to action, footer."""
    listed = "\n".join(f"{at}. {subject}" for at, subject in enumerate(subjects(brief), 1))
    return (
        f"### Subject lines\n\n{listed}\n\n### Preheader\n\n{preheader(brief)}\n\n### Body\n\n{body(brief)}\n\n"
        "*Footer: unsubscribe link and postal address of the sender. Plain-text version: the same words, bare link.*"
    )


def body(brief: Brief) -> str:
    """The letter itself."""
    product = product_of(brief)
    what = f"It is {_article(brief.description)}, made for" if brief.description else "It is made for"
    offers = "\n".join(f"- **{feature}**: {benefit(feature, at)}" for at, feature in enumerate(brief.features))
    listed = f"What you get:\n\n{offers}\n\n" if offers else ""
    return (
        "Hi {{first_name|there}},\n\n"
        f"Your day has enough routine in it. {_upper(product)} takes some of it off your hands. "
        f"{what} {audience_of(brief)}.\n\n{listed}"
        "Start with one real task of yours this week, and see what changes.\n\n"
        f"**[See {product} at work]**\n\n"
        "Questions? Just reply to this mail.\n\n"
        f"The {brief.product or 'product'} team"
    )


def design(brief: Brief) -> str:
    """Layout, type, buttons, dark mode, accessibility."""
    blocks = join(brief.features) or "the main points of the copy"
    return (
        "### Layout, top to bottom\n\n"
        "One column, 600 px, fluid to 100% on phones.\n\n"
        f"1. Header: logo on a transparent ground, 24 px padding.\n"
        f"2. Hero: headline of {product_of(brief)}, one line of support, primary button above the first scroll.\n"
        f"3. Feature rows, icon left and text right, stacked on phones: {blocks}.\n"
        f"4. Closing line, the same button again, full width on phones.\n"
        f"5. Footer: sender, postal address, unsubscribe.\n\n"
        "### Type, colour, buttons\n\n"
        "- System sans-serif; headline 28/34 px, text 16/24 px, footer 14/20 px.\n"
        "- Ink #1B1F24 on #FFFFFF, accent #0B5FFF: contrast above 4.5:1. In dark mode #E6EDF3 on #161B22.\n"
        "- Buttons in HTML, never images; 44 px high, 8 px radius.\n\n"
        "### Before sending\n\n"
        "Check images off (alt texts carry the message), dark mode, 320 px, a screen reader, and HTML under 100 KB."
    )


def analytics(brief: Brief) -> str:
    """Metrics, tests, tracking."""
    first, second, *_ = subjects(brief)
    lead = brief.features[-1] if brief.features else "the main benefit"
    return (
        "### What is measured\n\n"
        "- Primary: conversion rate = people who try it / delivered, within 7 days of the send.\n"
        "- Diagnostics: click rate = unique clickers / delivered; click-to-conversion rate. Opens only as a trend.\n"
        "- Guardrails: complaints under 0.1%, bounces under 2%, unsubscribes no higher than your usual campaign.\n"
        "- Target: your own last three campaigns as the baseline [to be filled in from your reports].\n\n"
        "### A/B tests, one change at a time\n\n"
        f'1. Subject line: "{first}" against "{second}"; decided by click rate.\n'
        f"2. First feature row: {lead} on top, against the order above; decided by conversion.\n"
        "3. Button label: what the reader sees against what the reader gets; decided by click rate.\n\n"
        "Split at random by recipient. Each arm needs about 16 p(1-p)/d^2 recipients (p the baseline, d the smallest "
        "difference worth acting on); read the result only when both arms are full.\n\n"
        "### Tracking\n\n"
        f"`utm_source=email&utm_medium=campaign&utm_campaign={slug(product_of(brief))}&utm_content=<variant>`"
    )


def personalization(brief: Brief) -> str:
    """Segments, merge fields, timing."""
    named = audience_of(brief).replace(" and ", ",").replace("&", ",").split(",")
    lead = "the benefit closest to their work"
    rows = [
        f"- **{_upper(group.strip())}**: lead with {_lower(_at(brief.features, at) or lead)}."
        for at, group in enumerate(group for group in named if group.strip())
    ]
    return (
        "### Segments, in order of precedence\n\n"
        + "\n".join(rows)
        + "\n- **Clicked before, not yet started**: shorter mail, one proof, button first.\n"
        "- **No click in 90 days**: one re-introduction, then rest.\n"
        "- **Everybody else**: the copy as it stands.\n"
        "- Excluded: current customers, open support cases, unsubscribed.\n\n"
        "### Merge fields\n\n"
        "| field | source | fallback |\n|---|---|---|\n"
        "| `first_name` | contact record | there |\n| `company` | contact record | your team |\n"
        "| `segment_lead` | rule above | the first feature |\n\n"
        "### Timing\n\n"
        "Launch mail on day 0 at 10:00 in the reader's time zone; to those who clicked and did not start, a second "
        "one on day 3; last one on day 7. Who starts leaves the sequence. At most two mails a week over all campaigns."
    )


WRITERS: dict[Craft, Callable[[Brief], str]] = {
    "content": content,
    "design": design,
    "analytics": analytics,
    "personalization": personalization,
}


def subjects(brief: Brief) -> list[str]:
    """Three subject lines that work by different means: news, benefit, curiosity."""
    product = product_of(brief)
    benefit_line = f"{brief.features[0]}, and more" if brief.features else f"Less routine with {product}"
    return [
        f"Meet {product}",
        _fitting(benefit_line, f"Less routine with {product}"),
        "What would you do with a free hour?",
    ]


def preheader(brief: Brief) -> str:
    """One line that adds to the subject line."""
    return f"{_upper(join(brief.features) or 'A closer look')}: see how it works."


def benefit(feature: str, at: int) -> str:
    """What a feature does for its reader."""
    name = feature.lower()
    return next((line for word, line in _BENEFITS.items() if word in name), _OTHERWISE[at % len(_OTHERWISE)])


def product_of(brief: Brief) -> str:
    """The product's name, or words that stand for it."""
    return brief.product or "our new product"


def audience_of(brief: Brief) -> str:
    """The audience, or words that stand for it."""
    return _lower(brief.audience) or "our readers"


def join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    lowered = [word if at == 0 else _lower(word) for at, word in enumerate(words)]
    return " and ".join([", ".join(lowered[:-1]), lowered[-1]] if len(lowered) > 1 else lowered)


def slug(text: str) -> str:
    """Lower case, with `-` for all that is neither letter nor digit."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _at(words: Sequence[str], at: int) -> str:
    return words[at % len(words)] if words else ""


def _fitting(text: str, otherwise: str) -> str:
    return text if len(text) <= _SUBJECT_LIMIT else otherwise


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text  # leaves "AI" and "IT" alone


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _article(text: str) -> str:
    lowered = _lower(text)
    if lowered.split(" ", 1)[0] in ("a", "an", "the", "our"):
        return lowered
    return f"{'an' if lowered[:1].lower() in 'aeiou' else 'a'} {lowered}"
