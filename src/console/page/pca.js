// The plane in which vectors differ most: the first two principal components.

/** Steps of the power iteration. The picture does not change after about twenty. */
const STEPS = 40;

/** Projects vectors of equal length: a list of `[x, y]`, and the share of the variance that each axis has. */
export function plane(vectors) {
  const n = vectors.length;
  const dimensions = vectors[0]?.length ?? 0;
  const mean = new Float64Array(dimensions);
  for (const vector of vectors) for (let d = 0; d < dimensions; d++) mean[d] += vector[d] / n;
  const centred = vectors.map((vector) => Float64Array.from(vector, (value, d) => value - mean[d]));
  const total = centred.reduce((sum, row) => sum + dot(row, row), 0) || 1;
  const axes = [];
  const shares = [];
  const points = centred.map(() => [0, 0]);
  for (let axis = 0; axis < 2; axis++) {
    // A fixed start that no data has reason to be orthogonal to.
    let direction = normalised(Float64Array.from({ length: dimensions }, (_, d) => Math.sin(1 + d + axis)));
    for (let step = 0; step < STEPS; step++) {
      const next = new Float64Array(dimensions);
      for (const row of centred) {
        const along = dot(row, direction);
        for (let d = 0; d < dimensions; d++) next[d] += along * row[d];
      }
      for (const other of axes) {
        const along = dot(next, other);
        for (let d = 0; d < dimensions; d++) next[d] -= along * other[d];
      }
      direction = normalised(next);
    }
    axes.push(direction);
    let variance = 0;
    centred.forEach((row, at) => {
      points[at][axis] = dot(row, direction);
      variance += points[at][axis] ** 2;
    });
    shares.push(variance / total);
  }
  return { points, shares };
}

function dot(a, b) {
  let sum = 0;
  for (let d = 0; d < a.length; d++) sum += a[d] * b[d];
  return sum;
}

function normalised(vector) {
  const length = Math.sqrt(dot(vector, vector)) || 1;
  return vector.map((value) => value / length);
}
