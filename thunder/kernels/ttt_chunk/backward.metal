  // Backward scan of G = dLoss/dState, laid out as in forward.metal. It needs no state:
  // u = G k + intra_chunk; G <- decay G - (eta u) k + dy q, from the last chunk to the first.
  constexpr int PER_LANE = D / P;
  constexpr int ROWS = TG / P;
  const int T = sizes[0];
  const int H = sizes[1];
  const int Dv = sizes[2];
  const uint tid = thread_index_in_threadgroup;
  const uint l = tid % P;
  const uint row = threadgroup_position_in_grid.x * ROWS + tid / P;
  const uint n = threadgroup_position_in_grid.z;
  const uint b = n / uint(H);
  const uint h = n % uint(H);
  const bool live = row < uint(Dv);
  const int chunks = (T + C - 1) / C;

  threadgroup float ks[C][D];
  threadgroup float qs[STAGED ? C : 1][D];
  threadgroup float es[C];

  float g[PER_LANE];
  for (int i = 0; i < PER_LANE; ++i) {
    g[i] = live ? dstate[(n * Dv + row) * D + i * P + l] : 0.0f;
  }
  const float decay = retention[h];

  for (int c = chunks - 1; c >= 0; --c) {
    const int begin = c * C;
    const int frames = metal::min(int(C), T - begin);
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (uint j = tid; j < uint(C * D); j += TG) {
      const int t = j / D;
      const int d = j % D;
      const uint at = ((b * T + begin + t) * H + h) * D + d;
      ks[t][d] = t < frames ? static_cast<float>(k[at]) : 0.0f;
      if (STAGED) {
        qs[t][d] = t < frames ? static_cast<float>(q[at]) : 0.0f;
      }
    }
    for (uint t = tid; t < uint(C); t += TG) {
      es[t] = int(t) < frames ? eta[(b * T + begin + t) * H + h] : 0.0f;
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);

    if (live) {
      for (int i = 0; i < PER_LANE; ++i) {
        state_gradients[((n * chunks + c) * Dv + row) * D + i * P + l] = g[i];
      }
    }
    float e[C];
    float o[C];
    for (int t = 0; t < C; ++t) {
      float key = 0.0f;
      for (int i = 0; i < PER_LANE; ++i) {
        key += g[i] * ks[t][i * P + l];
      }
      for (int mask = 1; mask < P; mask <<= 1) {
        key += metal::simd_shuffle_xor(key, ushort(mask));
      }
      e[t] = 0.0f;
      o[t] = 0.0f;
      if (t < frames && live) {
        const uint at = ((b * T + begin + t) * H + h) * Dv + row;
        const float error = key + intra_chunk[at];
        if (l == 0) {
          u[at] = error;
        }
        e[t] = HEBBIAN ? 0.0f : es[t] * error;
        o[t] = dy[at];
      }
    }
    for (int i = 0; i < PER_LANE; ++i) {
      float before = decay * g[i];
      for (int t = 0; t < frames; ++t) {
        const uint at = ((b * T + begin + t) * H + h) * D + i * P + l;
        const float query = STAGED ? qs[STAGED ? t : 0][i * P + l] : static_cast<float>(q[at]);
        before += o[t] * query - e[t] * ks[t][i * P + l];
      }
      g[i] = before;
    }
  }
  if (live) {
    for (int i = 0; i < PER_LANE; ++i) {
      first_gradient[(n * Dv + row) * D + i * P + l] = g[i];
    }
  }
