"""Losses of one sample and their gradients with respect to a network's output, in C++.

The same equations as torch operations, their signs and names stand where the losses are used:
`gippo.updates.alpha`, `gippo.updates.surrogate`, `gippo.experience.critic`.
"""

HALF_LOG_TWO_PI = 0.91893853320467274178

LOSSES = {
    # ||mu + sigma eps - goal||^2. Output: mu, log sigma; columns: eps, goal.
    "square_distance": """
        const int actions = outputs / 2;
        T loss = T(0);
        for (int a = 0; a < actions; ++a) {
            const T noise = T(exp(out[actions + a])) * column[a];
            const T error = out[a] + noise - column[actions + a];
            gradient[a] = factor * T(2) * error;
            gradient[actions + a] = factor * T(2) * error * noise;
            loss += error * error;
        }
        return loss;
    """,
    # -min(rho A, clip(rho, 1 - c, 1 + c) A), rho = pi/pi_ref. Output: mu, log sigma; columns:
    # action, log pi_ref, A; settings: c, bound of |log rho|. Whatever is not a number stays none.
    "clipped_surrogate": f"""
        const int actions = outputs / 2;
        const T clip = T(setting[0]), most = T(setting[1]), advantage = column[actions + 1];
        T log_prob = -actions * T({HALF_LOG_TWO_PI});
        for (int a = 0; a < actions; ++a) {{
            const T log_sigma = out[actions + a], inverse = T(exp(-log_sigma));
            const T z = (column[a] - out[a]) * inverse;
            log_prob -= T(0.5) * z * z + log_sigma;
            gradient[a] = z;
            gradient[actions + a] = inverse;
        }}
        const T log_ratio = log_prob - column[actions];
        const T bounded = log_ratio > most ? most : (log_ratio < -most ? -most : log_ratio);
        const T ratio = T(exp(bounded));
        const T above = T(1) + clip, below = T(1) - clip;
        const T near = ratio > above ? above : (ratio < below ? below : ratio);
        const T gain = ratio * advantage, clipped = near * advantage;
        const bool counts = gain <= clipped && bounded == log_ratio;
        const T weight = -gain * T(counts) * factor;
        for (int a = 0; a < actions; ++a) {{
            const T z = gradient[a];
            const T weighted = weight * z;  // first, as z^2 may overflow where the weight is zero
            gradient[a] = weighted * gradient[actions + a];
            gradient[actions + a] = weighted * z - weight;
        }}
        return -(gain <= clipped ? gain : clipped);
    """,
    # (unit output + offset - target)^2. Columns: target; settings: unit, offset.
    "square_error": """
        const T unit = T(setting[0]);
        const T error = unit * out[0] + T(setting[1]) - column[0];
        gradient[0] = factor * T(2) * unit * error;
        return error * error;
    """,
}


def sample_loss(name: str) -> str:
    """C++, after `kernels.perceptron.passes.prelude`: a loss by its name, as a function of one row.

    It returns the loss and writes `factor` times its gradient.
    """
    return f"""
    auto sample_loss = [&](const T* out, int outputs, const T* column, const double* setting,
                           T factor, T* gradient) -> T {{
        (void)outputs, (void)setting;
        {LOSSES[name]}
    }};
"""
