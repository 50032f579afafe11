  // One group for each frame: probabilities of the states, normalized within the frame; then each thread sums the
  // states of its outputs. No atomics, so every run gives the same bits.
  const int B = sizes[0];
  const int T = sizes[1];
  const int V = sizes[2];
  const int S = sizes[3];
  const uint s = thread_index_in_threadgroup;
  const uint t = threadgroup_position_in_grid.y;
  const uint b = threadgroup_position_in_grid.z;
  const int count = state_counts[b];
  threadgroup float occupancies[STATES];
  threadgroup int labels[STATES];
  threadgroup float tops[TG / 32];
  threadgroup float sums[TG / 32];
  if (int(t) >= frame_counts[b]) {  // the whole group returns
    for (uint v = s; v < uint(V); v += TG) {
      gradient[(b * T + t) * V + v] = 0.0f;
    }
    return;
  }
  float top = -4e30f;
  for (int i = s; i < count; i += TG) {
    labels[i] = states[b * S + i];
    const float forward = path_weights[(b * T + t) * S + i];
    const float backward = path_weights[((B + b) * T + t) * S + i];
    occupancies[i] = forward + backward - log_probs[(b * T + t) * V + labels[i]];
    top = metal::max(top, occupancies[i]);
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
    occupancies[i] = metal::exp(occupancies[i] - top);
    sum += occupancies[i];
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
    float label_probability = 0.0f;
    for (int i = 0; i < count; ++i) {
      label_probability += labels[i] == int(v) ? occupancies[i] : 0.0f;
    }
    gradient[(b * T + t) * V + v] = metal::exp(log_probs[(b * T + t) * V + v]) - label_probability / sum;
  }
