"""USD text of small robots."""

HEADER = """#usda 1.0
(
    defaultPrim = "robot"
    kilogramsPerUnit = {kilograms}
    metersPerUnit = {metres}
    upAxis = "{up}"
)
"""
BODY = 'def Xform "{name}" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"])\n'
BALL = """
def Sphere "ball" (prepend apiSchemas = ["PhysicsCollisionAPI", "PhysicsMassAPI"])
{
    double radius = 0.1
    %s
}
"""


def body(name, inside=BALL % "", at=(0, 0, 0)):
    return (
        BODY.format(name=name)
        + f"{{\ndouble3 xformOp:translate = {at}\n"
        + 'uniform token[] xformOpOrder = ["xformOp:translate"]\n'
        + inside
        + "\n}\n"
    )


def joint(name, kind="Revolute", body0=None, body1=None, inside="", schemas=""):
    ends = "".join(
        f"rel physics:body{side} = </{target}>\n"
        for side, target in enumerate((body0, body1))
        if target is not None
    )
    applied = f"(prepend apiSchemas = [{schemas}])" if schemas else ""
    return f'def Physics{kind}Joint "{name}" {applied}\n{{\n{ends}{inside}\n}}\n'


def two(**kwargs):
    """Bodies a (fixed to the world) and b, joined by joint j."""
    return (
        body("a")
        + body("b")
        + joint("base", "Fixed", None, "robot/a")
        + joint("j", **({"body0": "robot/a", "body1": "robot/b"} | kwargs))
    )


AXES = "quatf physics:principalAxes = (0.5, 0.5, 0.5, 0.5)"
