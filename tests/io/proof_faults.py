"""How faults are planted in written objects, one function each, with the words the proof must find for it."""

FAULTS = []
"""Object, its fault, and what the proof says of it."""


def fault(name, says):
    def planted(change):
        FAULTS.append((name, change, says))
        return change

    return planted


def swap(first, second, keyword):
    kept = first[keyword].value
    setattr(first, keyword, second[keyword].value)
    setattr(second, keyword, kept)


def groups(ds):
    return next(item for item in ds.ContentSequence if item.ValueType == "CONTAINER").ContentSequence


def items(ds, *codes):
    """Yield the content items of the named concepts, at any depth; all of them where none is named."""

    def below(parent):
        for item in parent.get("ContentSequence", []):
            if not codes or item.ConceptNameCodeSequence[0].CodeValue in codes:
                yield item
            yield from below(item)

    yield from below(ds)


def set_codes(ds, old, new):
    changed = [element for element in ds.iterall() if element.keyword == "CodeValue" and element.value == old]
    assert changed
    for element in changed:
        element.value = new


def set_numbers(ds, value, *codes):
    changed = [item for item in items(ds, *codes) if item.ValueType == "NUM"]
    assert changed
    for item in changed:
        item.MeasuredValueSequence[0].NumericValue = value


def set_units(ds, old, new):
    changed = [item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0] for item in items(ds) if item.ValueType == "NUM"]
    changed = [unit for unit in changed if unit.CodeValue == old]
    assert changed
    for unit in changed:
        unit.CodeValue = new


def rotated(references):
    """Each item names what its neighbour named."""
    uids = [one.ReferencedSOPInstanceUID for one in references]
    for one, uid in zip(references, uids[1:] + uids[:1], strict=True):
        one.ReferencedSOPInstanceUID = uid
