  // Forward and backward variables: one group for each row and direction, thread s is state s of that direction.
  // Weights pass between neighbours through threadgroup memory, in two buffers by turns: one barrier a frame.
  const int B = sizes[0];
  const int T = sizes[1];
  const int V = sizes[2];
  const int S = sizes[3];
  const int blank = sizes[4];
  const uint s = thread_index_in_threadgroup;
  const uint way = threadgroup_position_in_grid.y;
  const uint b = threadgroup_position_in_grid.z;
  const int length = frames[b];
  const int count = counts[b];
  const float never = -1e30f;
  threadgroup float passed[2][TG + 2];
  threadgroup float largest[TG / 32];

  const bool live = int(s) < count;
  const int j = way == 0 ? int(s) : count - 1 - int(s);  // this thread's state in the row's own order
  const int label = live ? states[b * S + j] : 0;
  bool jump = false;
  if (live && s >= 2) {
    const int two_before = way == 0 ? j - 2 : j + 2;
    jump = label != blank && label != states[b * S + two_before];
  }
  if (s < 2) {
    passed[0][s] = never;
    passed[1][s] = never;
  }
  float weight = never;
  float shift = 0.0f;
  for (int i = 0; i < length; ++i) {
    const int t = way == 0 ? i : length - 1 - i;
    const float emission = live ? log_probs[(b * T + t) * V + label] : 0.0f;
    if (i == 0) {
      weight = s < 2 && live ? emission : never;
    } else {
      const threadgroup float* before = passed[(i - 1) & 1];
      const float one = before[s + 1];
      const float two = jump ? before[s] : never;
      const float high = metal::max(weight, one);
      const float low = metal::min(weight, one);
      const float top = metal::max(high, two);
      const float third = metal::min(high, two);
      const float sum = top + metal::log(1.0f + metal::exp(low - top) + metal::exp(third - top));
      weight = live ? metal::max(sum + emission, never) : never;
    }
    if (i > 0 && i % 16 == 0) {  // re-centre; all threads of the group come here together
      const float mine = metal::simd_max(weight);
      if (thread_index_in_simdgroup == 0) {
        largest[simdgroup_index_in_threadgroup] = mine;
      }
      metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
      float top = largest[0];
      for (int g = 1; g < TG / 32; ++g) {
        top = metal::max(top, largest[g]);
      }
      weight = metal::max(weight - top, never);
      shift += top;
    }
    if (live) {
      paths[((way * B + b) * T + t) * S + j] = weight;
    }
    passed[i & 1][s + 2] = weight;
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  }
  if (way == 0 && s == 0) {
    const threadgroup float* end = passed[(length - 1) & 1];
    const float one = end[count + 1];
    const float two = count > 1 ? end[count] : never;
    const float top = metal::max(one, two);
    likelihood[b] = top + metal::log(metal::exp(one - top) + metal::exp(two - top)) + shift;
  }
