"""What SUMO's files may say: every attribute is read, known to change nothing, or refused."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from warp_envs.checks import ArgumentError
from warp_envs.traffic.sumo import read_sumo

DATA = Path(__file__).parents[2] / "data"
LANE = '<lane id="{0}_{1}" index="{1}" speed="20" length="300"/>'
A = f'<edge id="a">{LANE.format("a", 0)}</edge>'
B = f'<edge id="b">{LANE.format("b", 0)}{LANE.format("b", 1)}</edge>'
WAY = '<connection from="a" to="b" fromLane="0" toLane="0" state="M"/>'
INNER = (
    '<edge id=":1_0" function="internal"><lane id=":1_0_0" index="0" speed="9" length="8"/></edge>'
    '<connection from=":1_0" to="b" fromLane="0" toLane="0" state="M"/>'
)
AT_1 = '<junction id="1" incLanes="a_0" intLanes=""><request index="0" foes="0"/></junction>'
LIGHT = '<tlLogic id="1"><phase duration="9" state="G"/></tlLogic>'
LIT = WAY.replace('state="M"', 'state="O" tl="1" linkIndex="0"')
CAR = '<vType id="car" carFollowModel="IDM" speedDev="0"/>'
ROUTE = '<route id="r" edges="a b"/>'
FLOW = '<flow id="f" type="car" route="r" vehsPerHour="600"/>'
LOOP = '<inductionLoop id="l" lane="a_0" pos="10" period="60" file="out.xml"/>'
FILES = {"net": A + B + WAY + AT_1, "routes": CAR + ROUTE + FLOW, "additional": LOOP}


def read(folder: Path, **changed: str):
    """What is read of files with these elements in place of those above."""
    for tag, text in (FILES | changed).items():
        (folder / f"{tag}.xml").write_text(f"<{tag}>{text}</{tag}>")
    return read_written(folder)


def read_written(folder: Path):
    return read_sumo(*(folder / f"{tag}.xml" for tag in FILES))


def edited(file: str, old: str, new: str) -> dict[str, str]:
    assert old in FILES[file]
    return {file: FILES[file].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # A second way from a lane into an edge.
        (
            "net",
            WAY,
            WAY + WAY.replace('toLane="0"', 'toLane="1"'),
            "edge a: .* to b: a second one",
        ),
        ("net", WAY, WAY + WAY, "edge a: connection to b: a second one from lane 0 given"),
        # Attributes.
        ("net", 'state="M"', 'state="M" disallow="passenger"', "to b: disallow: 'passenger'"),
        ("net", 'state="M"', 'state="M" allow="bus"', "edge a: connection to b: allow: 'bus'"),
        ("net", 'state="M"', 'state="M" disallow="pasenger"', "'pasenger' .* mean 'passenger'"),
        ("net", 'state="M"', 'state="M" speed="5"', "to b: speed: '5' given, none without 'via'"),
        ("net", 'state="M"', 'state="M" keepClear="0"', "connection to b: keepClear: '0' given"),
        ("net", 'state="M"', 'state="m" visibility="9"', "connection to b: visibility: '9' given"),
        ("net", 'state="M"', 'state="M" foo="1"', "connection to b: foo: '1' given, no such"),
        ("net", 'fromLane="0"', 'fromLane="x"', "fromLane: 'x' given, a whole number from 0 to 0"),
        ("net", 'toLane="0"', 'toLane="2"', "toLane: '2' given, a whole number from 0 to 1"),
        (
            "net",
            'to="b"',
            'to="c"',
            "connection from 'a' to 'c': to: 'c' given, an edge of the net",
        ),
        ("net", 'from="a" ', "", "connection from '' to 'b': from: none given"),
        ("net", 'state="M"', 'state="M" via=":1_0_0"', "via: ':1_0_0' given, a lane of an inner"),
        ("net", 'length="300"', 'length="300" changeLeft="bus"', "lane a_0: changeLeft: 'bus'"),
        ("net", 'length="300"', 'length="300" changeRight=""', "lane a_0: changeRight: '' given"),
        (
            "net",
            'length="300"',
            'length="300" friction="0.5"',
            "lane a_0: friction: '0.5' given, 1",
        ),
        (
            "net",
            'length="300"',
            'length="300" foo="1"',
            "edge a: lane a_0: foo: '1' given, no such",
        ),
        ("net", 'length="300"', 'length="-3"', "edge a: lane a_0: length: '-3' given, a number ab"),
        ("net", 'id="a"', 'id="a" bidi="b"', "edge a: bidi: 'b' given, no such attribute"),
        (
            "net",
            A,
            A.replace("/></edge>", '><neigh lane="b_0"/></lane></edge>'),
            "a_0: neigh: that",
        ),
        (
            "net",
            A,
            A.replace("</e", '<stopOffset value="1"/></e'),
            "edge a: stopOffset: that given",
        ),
        ("net", A, f'<rail id="z"/>{A}', "net.xml: rail z: that given"),
        ("additional", "pos", 'vTypes="bus" pos', "loop l: vTypes: 'bus' given, '' accepted"),
        ("additional", "pos", 'foo="1" pos', "loop l: foo: '1' given, no such attribute"),
        ("routes", 'edges="a b"', 'edges="a b" foo="1"', "route r: foo: '1' given"),
        (
            "routes",
            ROUTE,
            '<route id="r" edges="a b"><stop lane="a_0"/></route>',
            "route r: stop: ",
        ),
        # What an edge's type restricts.
        (
            "net",
            '<edge id="a"',
            '<type id="t"><restriction vClass="passenger" speed="9"/></type><edge type="t" id="a"',
            "edge a: type: 't', with a restriction",
        ),
        # Lanes in their order.
        ("net", LANE.format("b", 0), "", "edge b: lane b_1: index: '1' given, '0'"),
        ("net", 'id="a_0"', 'id="a_1"', "edge a: lane a_1: id: 'a_1' given, 'a_0'"),
        ("net", LANE.format("a", 0), "", "edge a: no lane given, at least one"),
        # Names that two have, or nobody.
        ("net", B, A + B, "edge a: id: 'a' a second time given, each once"),
        ("net", AT_1, AT_1 + AT_1, "junction 1: id: '1' a second time"),
        ("net", B, B + "<edge/>", "net.xml: edge: id: none given, a name"),
        ("routes", CAR, CAR + CAR, "vType car: id: 'car' a second time"),
        ("routes", ROUTE, ROUTE + ROUTE, "route r: id: 'r' a second time"),
        ("routes", FLOW, FLOW + FLOW, "flow f: id: 'f' a second time"),
        ("routes", 'flow id="f"', "flow", "routes.xml: flow: id: none given"),
        ("routes", 'route id="r"', "route", "routes.xml: route: id: none given"),
        (
            "routes",
            FLOW,
            FLOW + '<vehicle id="f.0" type="car" route="r" depart="0"/>',
            "vehicle f.0: id: 'f.0', which is a vehicle of flow 'f'",
        ),
        ("additional", LOOP, LOOP + LOOP, "inductionLoop l: id: 'l' a second time"),
        # Values.
        ("routes", '"600"', '"0" number="5"', "flow f: vehsPerHour: '0' given, a number above 0"),
        ("routes", '"600"', '"9" number="2.5"', "flow f: number: '2.5' given, a whole number"),
        ("routes", '"600"', '"9" begin="10" end="5"', "flow f: end: '5' given, .* its begin, 10 s"),
        ("routes", '"600"', '"9" begin="nan:0:0"', "flow f: begin: 'nan:0:0' given, a time"),
        ("routes", 'edges="a b"', 'edges=""', "route r: edges: '' given, at least one edge"),
        ("routes", 'edges="a b"', 'edges="a b a"', "route r: edges: 'a' 2 times given"),
        (
            "routes",
            "speedDev",
            'tau="-1" speedDev',
            "vType car: tau: '-1' given, a number of at le",
        ),
        ("additional", '"a_0"', '"a_7"', "loop l: lane: 'a_7' given, a lane of the routes"),
        ("additional", '"a_0"', '"a_x"', "loop l: lane: 'a_x' given, a lane of the routes"),
        ("additional", '"10"', '"301"', "loop l: pos: '301' given, a place of lane a_0, 0 to 300"),
    ],
)
def test_what_is_refused(file, old, new, message, tmp_path):
    with pytest.raises(ArgumentError, match=message) as caught:
        read(tmp_path, **edited(file, old, new))
    assert str(caught.value).count(str(tmp_path)) == 1


SPREAD = '<flow id="f" type="car" route="r" begin="{}" end="{}" number="{}"/>'


def test_a_number_of_vehicles_is_spread_from_begin_to_end(tmp_path):
    (flow,) = read(tmp_path, routes=CAR + ROUTE + SPREAD.format(0, 100, 5)).network.flows
    assert (flow.begin, flow.end, flow.rate) == (0.0, 100.0, 180.0)
    with pytest.raises(ArgumentError, match="flow f: end: '9' given, a time after its begin, 9 s"):
        read(tmp_path, routes=CAR + ROUTE + SPREAD.format(9, 9, 5))


def test_a_way_by_an_inner_lane_goes_by_the_lane(tmp_path):
    """netconvert gives a connection's speed on to its inner lane, by which SUMO drives."""
    way = WAY.replace("state", 'via=":1_0_0" speed="9" state')
    over = AT_1.replace('intLanes=""', 'intLanes=":1_0_0"')
    found = read(tmp_path, net=A + B + INNER + way + over)
    assert [segment.limits[0] for segment in found.network.segments] == [20.0, 20.0, 9.0]
    assert len(found.notes) == 1
    two = way + way.replace('toLane="0"', 'toLane="1"')
    with pytest.raises(ArgumentError, match="connection to b: a second one from lane 0"):
        read(tmp_path, net=A + B + INNER + two + over)
    elsewhere = INNER.replace('toLane="0"', 'toLane="1"')
    with pytest.raises(ArgumentError, match="toLane: '1' from :1_0_0 given, '0', as before"):
        read(tmp_path, net=A + B + elsewhere + way + over)
    with pytest.raises(ArgumentError, match="junction 1: intLanes: 'z', without ':1_0_0'"):
        read(tmp_path, net=A + B + INNER + way + AT_1.replace('intLanes=""', 'intLanes="z"'))


def test_conflicts_are_those_of_a_junctions_ways_as_it_counts_them(tmp_path):
    """Over it go ways that are not read, by crossings and places to wait inside."""
    names = ("a", "b", "c", "d")
    edges = "".join(f'<edge id="{k}">{LANE.format(k, 0)}</edge>' for k in names)
    ways = [("a", "b", 0), ("c", "d", 1)]
    inner = "".join(
        f'<edge id=":1_{k}" function="internal"><lane id=":1_{k}_0" index="0" speed="9" '
        f'length="8"/></edge><connection from=":1_{k}" to="{there}" fromLane="0" toLane="0" '
        f'state="M"/><connection from="{here}" to="{there}" fromLane="0" toLane="0" '
        f'via=":1_{k}_0" state="M"/>'
        for here, there, k in ways
    )
    junction = (
        '<junction id="1" incLanes="a_0 c_0" intLanes=":1_8_0 :1_0_0 :1_1_0">'
        '<request index="0" foes="000"/><request index="1" foes="{}"/>'
        '<request index="2" foes="000"/></junction>'
    )
    routes = CAR + '<route id="r" edges="a b"/><route id="s" edges="c d"/>' + FLOW
    assert read(tmp_path, net=edges + inner + junction.format("001"), routes=routes).network
    with pytest.raises(ArgumentError, match="edge a: its way to b crosses that from c to d"):
        read(tmp_path, net=edges + inner + junction.format("100"), routes=routes)
    for old, new, message in (
        ('foes="001"', 'foes="01"', "request 1: foes: '01' given, 3 zeros and ones"),
        ('index="1"', 'index="2"', "request 2: index: 2 a second time"),
        ('index="1"', 'index="x"', "request x: index: 'x' given, a whole number from 0 to 2"),
    ):
        net = edges + inner + junction.format("001").replace(old, new, 1)
        with pytest.raises(ArgumentError, match=f"junction 1: {message}"):
            read(tmp_path, net=net, routes=routes)


def test_what_is_read_otherwise_is_noted(tmp_path):
    net = A + B + WAY + '<roundabout nodes="1" edges="b"/>'
    notes = read(tmp_path, net=net).notes
    assert any("edge b: SUMO's drivers choose lanes otherwise in a roundabout" in n for n in notes)
    assert any("lane a_0 is before no junction" in note for note in notes)


def test_a_signal_without_a_phase_or_with_an_index_that_is_none(tmp_path):
    assert read(tmp_path, net=A + B + LIT + LIGHT + AT_1).network.signals
    for old, new, message in (
        ('linkIndex="0"', 'linkIndex="x"', "edge a: linkIndex: 'x' given"),
        ('state="O"', 'state="?"', "edge a: right of way '\\?' to b"),
        ('<phase duration="9" state="G"/>', "", "tlLogic 1: no phase given"),
        ('state="G"', 'state="G" foo="1"', "tlLogic 1: phase: foo: '1' given, no such"),
    ):
        with pytest.raises(ArgumentError, match=message):
            read(tmp_path, net=(A + B + LIT + LIGHT + AT_1).replace(old, new))


NETCONVERT = {
    "edge": 'from="0" to="1" name="Main" priority="-1" type="highway" spreadType="center" '
    'shape="0,0 9,0" distance="5" length="300" routingType="x" function="normal"',
    "lane": 'allow="passenger bus" prefer="bus" friction="1.00" endOffset="1" width="3" '
    'acceleration="1" customShape="1" shape="0,0 9,0" outlineShape="0,0 9,0" type="x" '
    'changeLeft="all" changeRight="passenger"',
    "connection": 'pass="1" keepClear="1" contPos="2" uncontrolled="1" indirect="0" dir="s" '
    'shape="0,0 9,0" disallow="tram rail" type="x"',
    "junction": 'type="priority" x="1" y="2" z="3" shape="0,0 9,0" radius="4" customShape="1" '
    'rightOfWay="default" fringe="outer" name="x" roundabout="1"',
    "request": 'response="0" cont="0"',
    "net": 'version="1.20" junctionCornerDetail="5" limitTurnSpeed="5.50" lefthand="false" '
    'checkLaneFoesAll="1" rectangularLaneCut="1" walkingareas="1" avoidOverlap="0" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:noNamespaceSchemaLocation="http://sumo.dlr.de/xsd/net_file.xsd"',
}


def test_what_netconvert_writes_beyond_it_changes_nothing(tmp_path):
    plain = read(tmp_path)
    text = f"<net>{FILES['net']}</net>"
    for tag, attributes in NETCONVERT.items():
        text = text.replace(f"<{tag} ", f"<{tag} {attributes} ")
    text = text.replace("<net>", f"<net {NETCONVERT['net']}><location netOffset='0,0'/>")
    text = text.replace("</lane>", '<param key="a" value="b"/></lane>')
    (tmp_path / "net.xml").write_text(text)
    assert read_written(tmp_path) == plain


ODD = ("", "x", "nan", "inf", "-1", "1e308", "9" * 5000, "1_0", None)


def test_odd_values_are_taken_or_refused_by_name(tmp_path):
    """Of each attribute of each kind of element, one after the other."""
    demands = ("number", "period")
    flows = (f'<flow id="{k}" type="car" route="r" end="9" {k}="5"/>' for k in demands)
    single = '<vehicle id="v" type="car" depart="0"><route edges="a b"/></vehicle>'
    types = CAR.replace("speedDev", 'tau="1" minGap="2" accel="1" speedDev')
    way = LIT.replace("state", 'via=":1_0_0" state')
    over = AT_1.replace('intLanes=""', 'intLanes=":1_0_0"')
    files = {
        "net": A + B + INNER + LIGHT + way + over,
        "routes": types + ROUTE + "".join(flows) + single,
        "additional": LOOP,
    }
    read(tmp_path, **files)
    refused = 0
    for file, text in files.items():
        root = ET.fromstring(f"<{file}>{text}</{file}>")
        for element in root.iter():
            for name, was in element.items():
                for value in ODD:
                    element.attrib.pop(name, None)
                    if value is not None:
                        element.set(name, value)
                    (tmp_path / f"{file}.xml").write_text(ET.tostring(root, "unicode"))
                    try:
                        read_written(tmp_path)
                    except ArgumentError as error:
                        refused += 1
                        assert str(error).count(str(tmp_path)) == 1, (name, value, error)
                        assert "\n" not in str(error)
                element.set(name, was)
        (tmp_path / f"{file}.xml").write_text(ET.tostring(root, "unicode"))
    assert refused > 400
