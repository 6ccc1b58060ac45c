/**
 * The most bytes of memory that this program has had resident. `status` is the content of
 * `/proc/self/status` where there is one: what getrusage(2) tells instead, `maxRss`, in bytes, counts
 * what the program that started this one had at that moment (setmax_mm_hiwater_rss in Linux).
 */
export function peakMemory(status: string | undefined, maxRss: number): number {
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(status ?? '');
  return found === null ? maxRss : Number(found[1]) * 1024;
}
