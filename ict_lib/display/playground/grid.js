// The grid of noise levels, as ict_lib/grid.py has it.

// N ascending levels, equally spaced in sigma^(1/rho); the two ends are exact.
export function karras_sigmas(num_scales, sigma_min = 0.002, sigma_max = 80, rho = 7) {
  const low = sigma_min ** (1 / rho);
  const high = sigma_max ** (1 / rho);
  const sigmas = new Float64Array(num_scales);
  for (let i = 0; i < num_scales; i += 1) sigmas[i] = (low + (i / (num_scales - 1)) * (high - low)) ** rho;
  sigmas[0] = sigma_min;
  sigmas[num_scales - 1] = sigma_max;
  return sigmas;
}
