// Filters as expressions: `filter.all(filter.equals("lang", "en"), filter.range("year", { gte: 2020 }))`.

import { create, fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Filter, FilterSchema } from "./gen/cognate/v1/cognate_pb.js";

/** A value to compare with. */
export type Scalar = string | number | boolean | null;
/** The bounds of a range, at least one. */
export type Bounds = { gt?: number; gte?: number; lt?: number; lte?: number };

const value = (scalar: Scalar) => fromJson(ValueSchema, scalar);
const make = (condition: NonNullable<MessageInitShape<typeof FilterSchema>["condition"]>) =>
  create(FilterSchema, { condition });

/** Functions that make a filter. The contract says what each kind of condition means (message `Filter`). */
export const filter = {
  /** Reads a filter in its own language: `lang = "en" and year >= 2020`. */
  text: (text: string): Filter => make({ case: "text", value: text }),
  all: (...filters: Filter[]): Filter => make({ case: "allOf", value: { filters } }),
  any: (...filters: Filter[]): Filter => make({ case: "anyOf", value: { filters } }),
  not: (filter: Filter): Filter => make({ case: "negated", value: filter }),
  equals: (path: string, scalar: Scalar): Filter => make({ case: "equals", value: { path, value: value(scalar) } }),
  in: (path: string, scalars: Scalar[]): Filter => make({ case: "oneOf", value: { path, values: scalars.map(value) } }),
  range: (path: string, bounds: Bounds): Filter => make({ case: "range", value: { path, ...bounds } }),
  exists: (path: string): Filter => make({ case: "exists", value: { path } }),
};
