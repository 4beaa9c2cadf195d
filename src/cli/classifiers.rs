//! The classifiers of a configuration, found and started: for the server and for benchmarks.

use anyhow::Context;

use super::model::fetch;
use crate::classifier::{Classifier, ClassifierSource, Classifiers, Embeds, Spec};
use crate::config::Config;
use crate::onnx::Runtime;

/// Starts all classifiers, in their order. Blocks. A runtime is looked for only if one of them needs it. A head reads
/// one of the models of `embeds`.
pub fn start_classifiers(config: &Config, embeds: &[Embeds<'_>]) -> anyhow::Result<Classifiers> {
    let specs = &config.classifier.specs;
    let runtime = match specs.iter().any(Spec::needs_runtime) {
        true => Some(Runtime::find(&config.onnx)?),
        false => None,
    };
    let start = |spec: &Spec| {
        start(spec, config, runtime.as_ref(), embeds)
            .with_context(|| format!("the classifier {} cannot be served", spec.name))
    };
    Ok(Classifiers::new(specs.iter().map(start).collect::<anyhow::Result<_>>()?))
}

fn start(spec: &Spec, config: &Config, runtime: Option<&Runtime>, embeds: &[Embeds<'_>]) -> anyhow::Result<Classifier> {
    let options = &config.classifier;
    let runtime = || runtime.context("no ONNX runtime was loaded");
    Ok(match &spec.source {
        ClassifierSource::Head(path) => Classifier::of_head(spec, path, embeds)?,
        ClassifierSource::BuiltIn => Classifier::built_in(spec, runtime()?, options)?,
        ClassifierSource::Model(model) => Classifier::of_files(spec, &fetch(model)?, runtime()?, options)?,
    })
}
