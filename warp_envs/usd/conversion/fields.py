"""What becomes of everything that a compiled MuJoCo model holds.

Each array of `MjModel`, each field of `MjOption` and each flag stands in exactly one of the sets
below; a test holds them against the installed MuJoCo. What a newer MuJoCo adds is told as unknown
wherever it is not zero.
"""

from __future__ import annotations

import numpy as np


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


HONOURED = _names(
    """
    opt.gravity opt.disableflags opt.disableactuator opt.density opt.viscosity opt.wind
    body_gravcomp eq_type eq_obj1id eq_obj2id eq_active0 eq_data eq_solref eq_solimp
    tendon_adr tendon_num tendon_stiffness tendon_damping tendon_limited tendon_range
    tendon_lengthspring tendon_invweight0 dof_invweight0 wrap_type wrap_objid wrap_prm
    body_parentid body_weldid body_jntnum body_jntadr body_dofnum body_dofadr body_geomnum
    body_geomadr body_pos body_quat body_ipos body_iquat body_mass body_inertia body_rootid
    jnt_type jnt_qposadr jnt_dofadr jnt_bodyid jnt_limited jnt_pos jnt_axis jnt_stiffness jnt_range
    dof_bodyid dof_jntid dof_parentid dof_armature dof_damping qpos0 qpos_spring
    geom_type geom_contype geom_conaffinity geom_bodyid geom_dataid geom_matid geom_group geom_size
    geom_pos geom_quat geom_friction geom_condim geom_priority geom_rgba mat_rgba
    mesh_vertadr mesh_vertnum mesh_faceadr mesh_facenum mesh_vert mesh_face
    mesh_pos mesh_quat mesh_scale
    pair_geom1 pair_geom2 pair_friction pair_dim exclude_signature
    actuator_armature actuator_damping
    key_qpos site_bodyid site_pos
    """
)
"""Read by `writer`."""

CARRIED = _names(
    """
    actuator_trntype actuator_trnid actuator_dyntype actuator_gaintype actuator_biastype
    actuator_ctrllimited actuator_forcelimited actuator_gainprm actuator_biasprm actuator_ctrlrange
    actuator_forcerange actuator_gear jnt_actfrclimited jnt_actfrcrange actuator_group
    """
)
"""Written beside the robot, for environments that drive it; `findings` tells of what is not."""

EXAMINED = _names(
    """
    geom_fluid
    body_mocapid body_plugin flg_gravcomp
    jnt_stiffnesspoly jnt_springyield jnt_plasticadr jnt_actgravcomp
    dof_dampingpoly dof_frictionloss
    geom_plugin geom_adhesion geom_surfacevel
    flex_vertnum
    eq_objtype tendon_stiffnesspoly tendon_dampingpoly tendon_frictionloss tendon_armature
    tendon_springyield tendon_plasticadr
    actuator_plugin actuator_dynprm actuator_dampingpoly actuator_delay actuator_actlimited
    actuator_actrange actuator_actnum actuator_lengthrange actuator_cranklength
    hfield_size hfield_nrow hfield_ncol hfield_adr hfield_data
    key_time key_qvel key_act key_mpos key_mquat key_ctrl key_plastic
    """
)
"""Looked at by `findings`: listed or refused where it would change the motion."""

OWN = _names(
    """
    opt.timestep opt.impratio opt.tolerance opt.ls_tolerance opt.noslip_tolerance opt.ccd_tolerance
    opt.sleep_tolerance opt.o_margin opt.o_solref opt.o_solimp opt.o_friction opt.integrator
    opt.cone opt.jacobian opt.solver opt.iterations opt.ls_iterations opt.noslip_iterations
    opt.ccd_iterations opt.enableflags opt.sdf_initpoints opt.sdf_iterations opt.apirate
    opt.magnetic
    jnt_solref jnt_solimp jnt_margin dof_solref dof_solimp
    geom_solmix geom_solref geom_solimp geom_margin geom_gap
    pair_signature pair_solref pair_solreffriction pair_solimp pair_margin pair_gap
    pair_adhesion body_margin body_contype body_conaffinity
    tendon_solref_lim tendon_solimp_lim tendon_solref_fri tendon_solimp_fri tendon_margin
    """
)
"""How MuJoCo steps, limits and touches. Here that is this project's own: an explicit step
(`substeps`), springs for limits, springs with friction for contact with the ground alone."""

WITHOUT_EFFECT = tuple(
    _names(
        """
        cam_ light_ sensor_ site_ skin_ tex_ text_ tuple_ numeric_ mat_ name_ names bvh_ oct_ paths
        plugin vis stat B_ D_ M_ map efm tree_ flex ten_J wrap_ mesh_ hfield_pathadr signature
        buffer flg_
        """
    )
)
"""Beginnings of the names of what is only measured, drawn or named, and of what MuJoCo derives from
the rest or lays out in memory."""

WITHOUT_EFFECT_NAMES = _names(
    """
    body_sameframe body_simple body_treeid body_subtreemass body_invweight0 body_bvhadr body_bvhnum
    body_user jnt_group jnt_user jnt_actuatorid dof_treeid dof_Madr dof_simplenum
    dof_M0 dof_length geom_sameframe geom_aabb geom_rbound geom_user geom_castshadow
    tendon_matid tendon_actuatorid tendon_group tendon_treenum tendon_treeid
    tendon_width tendon_length0 tendon_user tendon_rgba tendon_type
    tendon_actfrclimited tendon_actfrcrange
    actuator_actadr actuator_actearly actuator_ctrladr actuator_ctrlnum actuator_ctrlspec
    actuator_outadr actuator_outnum actuator_history actuator_historyadr actuator_user
    actuator_acc0 actuator_length0
    """
)

FLAGS = {
    "CONSTRAINT": "honoured",  # neither limits, contact nor equalities
    "EQUALITY": "honoured",
    "LIMIT": "honoured",
    "CONTACT": "honoured",
    "SPRING": "honoured",
    "DAMPER": "honoured",
    "GRAVITY": "honoured",
    "FRICTIONLOSS": "honoured",
    "ACTUATION": "honoured",
    "CLAMPCTRL": "honoured",  # ranges of control are not written
    **dict.fromkeys(
        _names(
            """
            WARMSTART FILTERPARENT REFSAFE SENSOR MIDPHASE EULERDAMP AUTORESET NATIVECCD ISLAND
            MULTICCD
            """
        ),
        "how MuJoCo solves",
    ),
}
"""What becomes of each ``<flag name="disable"/>``."""


def verdict(field: str) -> str | None:
    """Which of the sets above a field belongs to, None for one that nobody thought of."""
    for name, known in (("honoured", HONOURED), ("carried", CARRIED), ("examined", EXAMINED),
                        ("own", OWN), ("no effect", WITHOUT_EFFECT_NAMES)):  # fmt: skip
        if field in known:
            return name
    return "no effect" if field.startswith(WITHOUT_EFFECT) else None


def unknown_fields(model: object) -> list[str]:
    """Arrays of a model and fields of its options that no set names and that are not all zero."""
    found = []
    for prefix, owner in (("", model), ("opt.", getattr(model, "opt", None))):
        for name in dir(owner):
            if name.startswith("_") or verdict(prefix + name) is not None:
                continue
            value = getattr(owner, name)
            array = isinstance(value, np.ndarray) or (prefix and isinstance(value, (int, float)))
            if array and np.any(np.asarray(value) != 0):
                found.append(prefix + name)
    return found
