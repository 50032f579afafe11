  // One group for each frame: probabilities of the states, normalised within the frame, then each thread adds up the
  // states of its outputs: no atomics, the same bits every time.
  const int B = sizes[0];
  const int T = sizes[1];
  const int V = sizes[2];
  const int S = sizes[3];
  const uint s = thread_index_in_threadgroup;
  const uint t = threadgroup_position_in_grid.y;
  const uint b = threadgroup_position_in_grid.z;
  const int count = counts[b];
  threadgroup float shares[STATES];
  threadgroup int labels[STATES];
  threadgroup float tops[TG / 32];
  threadgroup float sums[TG / 32];
  if (int(t) >= frames[b]) {  // the whole group leaves
    for (uint v = s; v < uint(V); v += TG) {
      gradient[(b * T + t) * V + v] = 0.0f;
    }
    return;
  }
  float top = -4e30f;
  for (int i = s; i < count; i += TG) {
    labels[i] = states[b * S + i];
    const float ahead = paths[(b * T + t) * S + i];
    const float back = paths[((B + b) * T + t) * S + i];
    shares[i] = ahead + back - log_probs[(b * T + t) * V + labels[i]];
    top = metal::max(top, shares[i]);
  }
  top = metal::simd_max(top);
  if (thread_index_in_simdgroup == 0) {
    tops[simdgroup_index_in_threadgroup] = top;
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  top = tops[0];
  for (int g = 1; g < TG / 32; ++g) {
    top = metal::max(top, tops[g]);
  }
  float sum = 0.0f;
  for (int i = s; i < count; i += TG) {
    shares[i] = metal::exp(shares[i] - top);
    sum += shares[i];
  }
  sum = metal::simd_sum(sum);
  if (thread_index_in_simdgroup == 0) {
    sums[simdgroup_index_in_threadgroup] = sum;
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  sum = sums[0];
  for (int g = 1; g < TG / 32; ++g) {
    sum += sums[g];
  }
  for (uint v = s; v < uint(V); v += TG) {
    float spoken = 0.0f;
    for (int i = 0; i < count; ++i) {
      spoken += labels[i] == int(v) ? shares[i] : 0.0f;
    }
    gradient[(b * T + t) * V + v] = metal::exp(log_probs[(b * T + t) * V + v]) - spoken / sum;
  }
