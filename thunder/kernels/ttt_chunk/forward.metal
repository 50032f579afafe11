  // Forward scan. A group of P lanes owns one row of the transposed state: lane l holds elements l, P + l, 2 P + l, ...
  // so that neighboring lanes read neighboring floats. Rows are independent: no atomics, any order gives the same bits.
  constexpr int PER_LANE = D / P;
  constexpr int ROWS = TG / P;
  const int T = sizes[0];
  const int H = sizes[1];
  const int Dv = sizes[2];
  const int checkpoint_every = sizes[3];
  const uint tid = thread_index_in_threadgroup;
  const uint l = tid % P;
  const uint row = threadgroup_position_in_grid.x * ROWS + tid / P;
  const uint n = threadgroup_position_in_grid.z;
  const uint b = n / uint(H);
  const uint h = n % uint(H);
  const bool live = row < uint(Dv);
  const int chunks = (T + C - 1) / C;
  const int saved_chunks = (chunks + checkpoint_every - 1) / checkpoint_every;

  threadgroup float ks[C][D];
  threadgroup float qs[STAGED ? C : 1][D];
  threadgroup float es[C];

  float w[PER_LANE];
  for (int i = 0; i < PER_LANE; ++i) {
    w[i] = live ? state[(n * Dv + row) * D + i * P + l] : 0.0f;
  }
  const float decay = retention[h];

  for (int c = 0; c < chunks; ++c) {
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

    if (live && c % checkpoint_every == 0) {
      for (int i = 0; i < PER_LANE; ++i) {
        saved_states[((n * saved_chunks + c / checkpoint_every) * Dv + row) * D + i * P + l] = w[i];
      }
    }
    float e[C];
    for (int t = 0; t < C; ++t) {
      float key = 0.0f;
      float query = 0.0f;
      if (t < frames) {
        const uint at = ((b * T + begin + t) * H + h) * D + l;
        for (int i = 0; i < PER_LANE; ++i) {
          key += w[i] * ks[t][i * P + l];
          query += w[i] * (STAGED ? qs[STAGED ? t : 0][i * P + l] : static_cast<float>(q[at + i * P]));
        }
      }
      for (int mask = 1; mask < P; mask <<= 1) {
        key += metal::simd_shuffle_xor(key, ushort(mask));
        query += metal::simd_shuffle_xor(query, ushort(mask));
      }
      if (t < frames && live) {
        const uint at = ((b * T + begin + t) * H + h) * Dv + row;
        if (l == 0) {
          q_state[at] = query;
          k_state[at] = key;
        }
        e[t] = es[t] * ((HEBBIAN ? 0.0f : key) - static_cast<float>(v[at]));
      } else {
        e[t] = 0.0f;
      }
    }
    for (int i = 0; i < PER_LANE; ++i) {
      float next = decay * w[i];
      for (int t = 0; t < C; ++t) {
        next -= e[t] * ks[t][i * P + l];
      }
      w[i] = next;
    }
  }
  if (live) {
    for (int i = 0; i < PER_LANE; ++i) {
      last_state[(n * Dv + row) * D + i * P + l] = w[i];
    }
  }
