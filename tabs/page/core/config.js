// The configuration that the server gives with the page: ranges, names, pairs. Set once, before any part.

/** @type {any} */
export const config = {};

/** Take over what the header part was given. */
export function configure(given) {
  Object.assign(config, given);
}

/** A sampler's row by id. */
export function samplerOf(id) {
  return config.samplers.find((sampler) => sampler.id === id);
}

/** How a sampler is called; an unknown one is shown as it came. */
export function samplerLabel(id) {
  return samplerOf(id)?.label ?? id;
}

/** Which schedules make sense with a sampler on a model; none where the sampler doesn't go with it. */
export function schedulesFor(samplerId, model) {
  const sampler = samplerOf(samplerId);
  if (!sampler) return Object.keys(config.schedules);
  if (config.flow_families.includes(model?.family)) return sampler.flow_schedules;
  if (model?.is_edm) return sampler.edm_schedules;
  return model?.zero_snr ? sampler.zero_snr_schedules : sampler.schedules;
}

/** Ids and labels of the samplers that go with a model. */
export function samplersFor(model) {
  const fitting = config.samplers.filter(({ id }) => schedulesFor(id, model).length);
  return fitting.map(({ id, label }) => [id, label]);
}

/** "SD 1.x" for "sd1". */
export function familyLabel(family) {
  return config.families[family] ?? family;
}
