import { describe, expect, it } from 'vitest';
import { MANUAL } from '../../../host-client/cli/manual.ts';
import { configSchema } from '../../../host-client/config.ts';

type Schema = { entries?: Record<string, Schema>; wrapped?: Schema; pipe?: readonly Schema[] };

/** Paths of all fields of a schema that hold no further ones. */
function fields(schema: Schema, at = ''): string[] {
  if (schema.wrapped !== undefined) return fields(schema.wrapped, at);
  if (schema.entries === undefined) return [at];
  return Object.entries(schema.entries).flatMap(([name, inner]) =>
    fields(inner, at === '' ? name : `${at}.${name}`),
  );
}

describe('the manual of snaphost', () => {
  it('names every setting, and none that is not there', () => {
    const named = MANUAL.settings?.map(([name]) => name) ?? [];
    expect(named.toSorted()).toEqual(fields(configSchema as unknown as Schema).sort());
    expect(named.length).toBeGreaterThan(30);
  });

  it('states the defaults that hold', () => {
    const stated = new Map(MANUAL.settings);
    const walk = (schema: Schema & { default?: unknown }, at: string): void => {
      if (schema.entries !== undefined) {
        for (const [name, inner] of Object.entries(schema.entries)) {
          walk(inner, at === '' ? name : `${at}.${name}`);
        }
      } else if (['string', 'number', 'boolean'].includes(typeof schema.default)) {
        expect(stated.get(at)).toContain(`(default: ${schema.default})`);
      } else if (schema.wrapped?.entries !== undefined) walk(schema.wrapped, at);
    };
    walk(configSchema as unknown as Schema, '');
  });
});
