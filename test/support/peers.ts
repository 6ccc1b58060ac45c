import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A program of another release of Debian, fetched by `test/support/peers`. */
export type Peer = 'cosign2' | 'cosign3' | 'skopeo-trixie' | 'skopeo-sid' | 'podman5';

const FOLDER = fileURLToPath(new URL('../../.cache/peers/bin/', import.meta.url));

/** Path of a peer's program, which may not be there: see {@link peerMissing}. */
export function peerPath(peer: Peer): string {
  return `${FOLDER}${peer}`;
}

/**
 * Why a peer cannot be used here, or undefined when it can:
 * `const why = peerMissing('cosign3'); ctx.skip(why !== undefined, why)`.
 */
export function peerMissing(...peers: readonly Peer[]): string | undefined {
  for (const peer of peers) {
    if (!existsSync(peerPath(peer))) return `${peer} is not in .cache/peers`;
    if (peer === 'podman5' && process.getuid?.() !== 0) return 'podman5 needs root';
  }
  return undefined;
}
