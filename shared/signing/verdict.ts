import type { Identity } from './identity.ts';
import type { PublicKey } from './public-key.ts';

/** What checking one signature came to: by which key or, with a certificate, by whom. */
export type Verdict =
  | { readonly good: true; readonly key: PublicKey }
  | { readonly good: true; readonly identity: Identity }
  | { readonly good: false; readonly reason: string };

/** A signature that does not count, and why. */
export function bad(reason: string): Verdict {
  return { good: false, reason };
}

/** Runs a check that throws on bad input; whatever it throws makes the signature bad. */
export function verdictOf(check: () => Verdict): Verdict {
  try {
    return check();
  } catch (thrown) {
    return bad(thrown instanceof Error ? printable(thrown.message) : 'unreadable');
  }
}

/** Text from outside, made fit for terminals and logs. */
export function printable(text: string, limit = 200): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, limit);
}
