// Reads buffers from stdin, runs the kernel over the grid, writes the outputs to stdout.
#include <unistd.h>

static void take(void* place, size_t bytes) {
  if (fread(place, 1, bytes, stdin) != bytes) exit(9);
}

int main() {
  int head[8];  // grid, threadgroup, order, buffers
  take(head, sizeof head);
  void* b[16];
  int64_t sizes[16];
  int written[16];
  for (int i = 0; i < head[7]; ++i) {
    take(&sizes[i], 8);
    take(&written[i], 4);
    b[i] = malloc(sizes[i] ? sizes[i] : 1);
    take(b[i], sizes[i]);
  }
  emu::order_mode = head[6];
  uint3 grid(head[0], head[1], head[2]), group(head[3], head[4], head[5]);
  int failed = emu::launch(grid, group, [&](const emu::Ctx& c) { CALL_THE_KERNEL });
  if (failed) {
    fprintf(stderr, "lane: %s\n", emu::error_text());
    return 40 + failed;
  }
  for (int i = 0; i < head[7]; ++i)
    if (written[i]) fwrite(b[i], 1, sizes[i], stdout);
  fflush(stdout);
  fflush(stderr);
  _exit(0);  // fibres' stacks are still there: no destructors; the race checker sets its own exit code here too
}
