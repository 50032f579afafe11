  // Forward and backward variables: one group for each row and direction; thread s is state s of that direction.
  // Neighbors exchange weights through threadgroup memory, in two alternating buffers: one barrier for each frame.
  const int B = sizes[0];
  const int T = sizes[1];
  const int V = sizes[2];
  const int S = sizes[3];
  const int blank = sizes[4];
  const uint s = thread_index_in_threadgroup;
  const uint direction = threadgroup_position_in_grid.y;
  const uint b = threadgroup_position_in_grid.z;
  const int length = frame_counts[b];
  const int count = state_counts[b];
  const float log_zero = -1e30f;
  threadgroup float exchanged[2][TG + 2];
  threadgroup float largest[TG / 32];

  const bool live = int(s) < count;
  const int j = direction == 0 ? int(s) : count - 1 - int(s);  // this thread's state in the order of the row
  const int label = live ? states[b * S + j] : 0;
  bool may_skip = false;
  if (live && s >= 2) {
    const int two_before = direction == 0 ? j - 2 : j + 2;
    may_skip = label != blank && label != states[b * S + two_before];
  }
  if (s < 2) {
    exchanged[0][s] = log_zero;
    exchanged[1][s] = log_zero;
  }
  float weight = log_zero;
  float shift = 0.0f;
  for (int i = 0; i < length; ++i) {
    const int t = direction == 0 ? i : length - 1 - i;
    const float emission = live ? log_probs[(b * T + t) * V + label] : 0.0f;
    if (i == 0) {
      weight = s < 2 && live ? emission : log_zero;
    } else {
      const threadgroup float* before = exchanged[(i - 1) & 1];
      const float one = before[s + 1];
      const float two = may_skip ? before[s] : log_zero;
      const float high = metal::max(weight, one);
      const float low = metal::min(weight, one);
      const float top = metal::max(high, two);
      const float third = metal::min(high, two);
      const float sum = top + metal::log(1.0f + metal::exp(low - top) + metal::exp(third - top));
      weight = live ? metal::max(sum + emission, log_zero) : log_zero;
    }
    if (i > 0 && i % 16 == 0) {  // rescale; all threads of the group reach this together
      const float simd_largest = metal::simd_max(weight);
      if (thread_index_in_simdgroup == 0) {
        largest[simdgroup_index_in_threadgroup] = simd_largest;
      }
      metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
      float top = largest[0];
      for (int g = 1; g < TG / 32; ++g) {
        top = metal::max(top, largest[g]);
      }
      weight = metal::max(weight - top, log_zero);
      shift += top;
    }
    if (live) {
      path_weights[((direction * B + b) * T + t) * S + j] = weight;
    }
    exchanged[i & 1][s + 2] = weight;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  }
  if (direction == 0 && s == 0) {
    const threadgroup float* end = exchanged[(length - 1) & 1];
    const float one = end[count + 1];
    const float two = count > 1 ? end[count] : log_zero;
    const float top = metal::max(one, two);
    likelihood[b] = top + metal::log(metal::exp(one - top) + metal::exp(two - top)) + shift;
  }
