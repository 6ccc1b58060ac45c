import * as v from 'valibot';
import { isSafeKeyUrl } from '../access/issuer-keys.ts';
import { kindOfWho } from '../access/principal.ts';
import { count, filePath, pattern } from './config-fields.ts';

/** Kinds of principals that are no issuer's name. */
const OWN_KINDS = ['anyone', 'user', 'certificate'];

const who = v.array(
  v.pipe(
    v.string(),
    v.check((text) => kindOfWho(text) !== undefined, 'must be anyone, KIND:* or KIND:NAME'),
  ),
);
const ruleSchema = v.strictObject({
  repository: pattern,
  pull: v.optional(who, []),
  push: v.optional(who, []),
  delete: v.optional(who, []),
  /** Having deltas made. */
  delta: v.optional(who, []),
  /** Reporting deltas and updates; those who may pull, when absent. */
  report: v.optional(who),
});
const url = v.pipe(
  v.string(),
  v.check(isSafeKeyUrl, 'must be an https:// address (http:// on loopback only)'),
);
const issuerSchema = v.strictObject({
  /** What rules call those who come with its tokens. */
  name: v.pipe(
    v.string(),
    v.regex(/^[a-z][a-z0-9-]{0,30}$/, 'must be lower-case letters, digits and dashes'),
    v.notValues(OWN_KINDS, `must be none of ${OWN_KINDS.join(', ')}`),
  ),
  /** As it stands in tokens. */
  issuer: url,
  audience: v.pipe(v.string(), v.minLength(1)),
  /** Where its keys are; found out by OpenID Connect Discovery when absent. */
  keys: v.optional(
    v.pipe(
      url,
      v.transform((text) => new URL(text)),
    ),
  ),
  /** Certificates to trust besides the system's for it, as PEM. */
  ca: v.optional(filePath),
  /** The claim that names somebody. */
  claim: v.optional(v.string(), 'sub'),
  /** Claims that must have exactly these values. */
  require: v.optional(v.record(v.string(), v.string()), {}),
});

/** Who may use the gateway; its fields are documented in deploy/snapgate.yaml. */
export const accessSchema = v.pipe(
  v.strictObject({
    /** Names and bcrypt hashes. */
    htpasswd: v.optional(filePath),
    oidc: v.optional(v.pipe(v.array(issuerSchema), v.maxLength(16)), []),
    /** How long the gateway's own tokens last. */
    tokenMinutes: v.optional(count(1, 60), 5),
    rules: v.array(ruleSchema),
    catalog: v.optional(who, []),
    metrics: v.optional(who, []),
    /** Reading the TUF repository, where there is one. */
    tuf: v.optional(who, ['anyone']),
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const { rules, catalog, metrics, tuf, oidc, htpasswd } = dataset.value;
    const known = new Set(['anyone', 'certificate', ...oidc.map(({ name }) => name)]);
    if (htpasswd !== undefined) known.add('user');
    const lists = rules.flatMap((rule) => [
      rule.pull,
      rule.push,
      rule.delete,
      rule.delta,
      rule.report ?? [],
    ]);
    const unknown = [...lists, catalog, metrics, tuf]
      .flat()
      .find((one) => !known.has(kindOfWho(one) ?? ''));
    if (unknown !== undefined) {
      addIssue({ message: `${unknown}: nothing here makes it known who that is` });
    }
  }),
);
export type AccessConfig = v.InferOutput<typeof accessSchema>;
