"""Run a policy that `gippo export` has written, without gippo: python run_policy.py policy.onnx."""

import json
import sys

import numpy as np
import onnxruntime

policy = onnxruntime.InferenceSession(sys.argv[1])
about = policy.get_modelmeta().custom_metadata_map
obs = np.zeros((1, int(about["num_obs"])), dtype=np.float32)  # from sensors, in the units below
action = policy.run(["action"], {"obs": obs})[0]  # in [-1, 1], every control step
print({quantity["name"]: quantity["unit"] for quantity in json.loads(about["observations"])})
print(action, "every", about["control_step"], "s")
