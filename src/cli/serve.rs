//! `cognate serve`: runs the server until it is told to stop.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::classifiers::start_classifiers;
use super::model::fetch;
use super::signals::{self, Signals};
use crate::backend::Backend;
use crate::classifier::{Classifiers, Embeds};
use crate::collection::{self, Store};
use crate::compute::Pools;
use crate::config::{Config, Flags, Shares};
use crate::embedder::{self, Embedder, Spec};
use crate::identity::Keys;
use crate::index::MAX_DIMENSIONS;
use crate::machine::{allocator, cpu, memory};
use crate::model::{Card, Files};
use crate::reranker::{self, Reranker, Rerankers};
use crate::rpc::{About, Engine, Limits, Migrations, Models, Served};
use crate::server::{Address, Listener, Reloadable, Tls};
use crate::{metrics, opensearch, server, telemetry};

/// Runs the server until it is told to stop
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// Serves until SIGINT or SIGTERM. SIGHUP reloads files.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.flags)?;
    let traces = telemetry::start_with_traces(&config.telemetry)?;
    tokio::spawn(telemetry::report_suppressed_lines());
    let served = serve(config, OnHangup::Reload, Box::new(|_| ())).await;
    traces.finish().await;
    served?;
    Ok(ExitCode::SUCCESS)
}

/// The effect of SIGHUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHangup {
    /// Files are read again.
    Reload,
    /// The server stops.
    Stop,
}

/// Listens, loads the model, and serves until a signal. Calls `ready` with the address once calls are answered.
// Boxed, because the whole server would be compiled again for another closure.
pub async fn serve(config: Config, on_hangup: OnHangup, ready: Box<dyn FnOnce(Address)>) -> anyhow::Result<()> {
    force_cpu(&config)?;
    let tls = config.tls.clone().map(Tls::load).transpose().context("TLS cannot be set up")?.map(Arc::new);
    let listener = Listener::bind(&config.addr, tls.clone()).await?;
    let addr = listener.address().context("the listener has no address")?;
    let keys = open_keys(&config, &addr, tls.is_some())?;
    // On standard output, alone, for programs that start the server on port 0. Errors are ignored: nobody may be
    // reading it.
    let _ = writeln!(io::stdout(), "cognate {} listens on {addr}", env!("CARGO_PKG_VERSION"));
    match &tls {
        Some(tls) => {
            tracing::info!(%addr, certificate_valid_until = %tls.expiry(), "TLS is on");
            tokio::spawn(Arc::clone(tls).remind_of_expiry());
        }
        None if addr.is_local() => {}
        None => tracing::warn!(
            %addr,
            "texts and answers cross the network unencrypted: set tls_cert and tls_key, or listen on 127.0.0.1 behind \
             a proxy that has TLS"
        ),
    }
    if config.server.console {
        announce_console(&addr, tls.is_some());
    }
    let (hangup, hangups) = mpsc::channel(1);
    let reloadables = tls.into_iter().map(Tls::reloadable).chain(keys.clone().map(reloadable_keys));
    tokio::spawn(server::reload(reloadables.collect(), hangups));
    let stop = stop_signal((on_hangup == OnHangup::Reload).then_some(hangup))?;
    let mut options = config.server.clone();
    options.authentication.keys = keys;
    let _metrics = metrics::serve(&config.metrics, &mut options).await?;
    server::serve(listener, options, load(config), || ready(addr), stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Logs the address of the console, as a browser on this machine takes it.
fn announce_console(addr: &Address, has_tls: bool) {
    let Address::Tcp(mut addr) = *addr else { return };
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if has_tls { "https" } else { "http" };
    tracing::info!("the console is at {scheme}://{addr}/");
}

/// Reads the keys, if there are any. Refuses to let them cross a network that others can listen to.
fn open_keys(config: &Config, addr: &Address, has_tls: bool) -> anyhow::Result<Option<Arc<Keys>>> {
    let Some(path) = &config.keys else { return Ok(None) };
    let keys = Arc::new(Keys::open(path, config.embedder.pools.allowances.clone())?);
    ensure!(
        has_tls || addr.is_local() || config.insecure,
        "keys would cross the network unencrypted to {addr}: set tls_cert and tls_key, or listen on 127.0.0.1 behind a \
         proxy that has TLS; --insecure allows it"
    );
    tracing::info!(keys = %path.display(), "callers need a key: {keys}");
    Ok(Some(keys))
}

/// Reads the keys again when their file changes.
fn reloadable_keys(keys: Arc<Keys>) -> Reloadable {
    Reloadable {
        name: "the keys",
        files: vec![keys.path().to_owned()],
        reload: Box::new(move || keys.reload().map_err(|error| error.to_string())),
    }
}

/// Sets the instruction level of the processor, if the configuration names one. Must run before any kernel.
pub fn force_cpu(config: &Config) -> anyhow::Result<()> {
    let Some(level) = config.cpu else { return Ok(()) };
    cpu::force(level).with_context(|| {
        let present: Vec<&str> = cpu::Level::supported().map(cpu::Level::name).collect();
        format!("cpu is {level}, but this machine has {}: choose one of these", present.join(", "))
    })
}

/// Fetches the default model and starts it. Blocks.
pub fn start_model(config: &Config) -> anyhow::Result<(Card, Embedder)> {
    let spec = config.models.first().context("there is no model")?;
    let (_, card, loaded) = load_model(config, spec)?;
    Ok((card, Embedder::start_all(vec![loaded])?.remove(0)))
}

/// Makes the engine that answers calls: reads the collections while the model is loaded. The first failure ends
/// both.
async fn load(config: Config) -> anyhow::Result<Engine> {
    let (options, engine) = (config.store.clone(), config.engine.clone());
    let (mut limits, pools, shares) = (config.limits.clone(), config.embedder.pools.clone(), config.memory);
    let store = async {
        match engine {
            Some(engine) => open_engine(engine, pools.clone()).await,
            None => {
                let opened = spawn_blocking(move || load_and_tidy(|| open_store(options)));
                Ok(Backend::from(Arc::new(opened.await.context("reading the collections panicked")??)))
            }
        }
    };
    let messages = config.server.message_budget.clone();
    let models = async {
        spawn_blocking(move || load_and_tidy(|| load_models(&config))).await.context("loading the models panicked")?
    };
    let (store, Loaded { models, classifiers, rerankers }) = tokio::try_join!(store, models)?;
    share_memory(store.local().map(|store| &**store), shares, &mut limits);
    let (store, migrations) = (store.into(), Migrations::default());
    Ok(Engine { models, classifiers, rerankers, store, migrations, limits, pools, messages })
}

/// Loads, and returns what the load freed to the system: [`share_memory`] measures the process right after it.
fn load_and_tidy<T>(load: impl FnOnce() -> T) -> T {
    let loaded = load();
    allocator::return_freed_pages();
    loaded
}

/// Gives the collections of this process the memory that the model and the settings leave, and logs the shares.
fn share_memory(store: Option<&Store>, mut shares: Shares, limits: &mut Limits) {
    // Documents that were read count as stored, not as part of the process.
    let of_documents = store.map_or(0, |store| {
        let in_files: usize = store.list().iter().map(|collection| collection.bytes_in_files()).sum();
        store.used().bytes.saturating_sub(in_files)
    });
    if store.is_none() {
        shares.stored = Some(0);
    }
    let anonymous = memory::anonymous().and_then(|bytes| usize::try_from(bytes).ok());
    let fixed = shares.fixed(anonymous.map(|bytes| bytes.saturating_sub(of_documents)));
    limits.max_resident_bytes = shares.most_resident(fixed).unwrap_or(usize::MAX);
    if let Some(store) = store {
        limits.stored.bytes = shares.stored(fixed);
        store.set_most_bytes(limits.stored.bytes);
    }
    let bounded = |bytes: usize| (bytes != usize::MAX).then_some(bytes);
    tracing::info!(
        limit = shares.limit,
        process = fixed,
        message_budget = shares.messages,
        embed_cache_bytes = shares.embed_cache,
        text_cache_bytes = shares.text_cache,
        max_stored_bytes = bounded(limits.stored.bytes),
        max_resident_bytes = bounded(limits.max_resident_bytes),
        "memory is divided (bytes)"
    );
}

/// The models of all kinds.
struct Loaded {
    models: Models,
    classifiers: Classifiers,
    rerankers: Rerankers,
}

/// Starts the embedding models, and then the classifiers, some of which read their vectors, and the rerankers. Blocks.
fn load_models(config: &Config) -> anyhow::Result<Loaded> {
    let models = start_models(config)?;
    let embeds: Vec<Embeds<'_>> = models
        .iter()
        .map(|Served { embedder, about }| Embeds {
            embedder,
            id: &about.id,
            fingerprints: about.compatible().collect(),
        })
        .collect();
    let classifiers = start_classifiers(config, &embeds)?;
    for classifier in classifiers.iter() {
        let about = classifier.about();
        tracing::info!(
            classifier = about.name,
            id = about.id,
            runtime = about.runtime,
            labels = about.labels.join(", "),
            max_tokens = about.max_tokens,
            inputs = about.inputs.join("; "),
            outputs = about.outputs.join("; "),
            "classifier ready"
        );
    }
    let rerankers = load_rerankers(config)?;
    Ok(Loaded { models, classifiers, rerankers })
}

/// Fetches the rerankers and starts them, in their order. Blocks.
fn load_rerankers(config: &Config) -> anyhow::Result<Rerankers> {
    let start = |spec: &reranker::Spec| {
        let started =
            || -> anyhow::Result<Reranker> { Ok(Reranker::start(spec, &fetch(&spec.model)?, &config.reranker)?) };
        let reranker = started().with_context(|| format!("the reranker {} cannot be served", spec.name))?;
        let about = reranker.about();
        tracing::info!(
            reranker = about.name,
            id = about.id,
            revision = about.revision,
            activation = %about.function,
            max_tokens = about.max_tokens,
            runtime = about.runtime,
            precision = about.precision,
            "reranker ready"
        );
        Ok(reranker)
    };
    Ok(Rerankers::new(config.reranker.specs.iter().map(start).collect::<anyhow::Result<_>>()?))
}

/// Refuses a model whose vectors are too long for a collection, before a request finds out.
fn check_dimensions(model: &str, dimensions: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        dimensions <= MAX_DIMENSIONS,
        "the model {model} gives vectors of {dimensions} dimensions, and collections hold up to {MAX_DIMENSIONS}: \
         choose another model with --model"
    );
    Ok(())
}

/// Fetches a model, loads it and tests it. Blocks.
fn load_model(config: &Config, spec: &Spec) -> anyhow::Result<(Files, Card, embedder::Loaded)> {
    let (files, source) = (fetch(&spec.model)?, &spec.model.source);
    let card = Card::read(&files, &config.embedder.arithmetic())
        .with_context(|| format!("the model {source} cannot be used"))?;
    check_dimensions(&card.id, card.dimensions)?;
    let cache_bytes = config.embedder.cache_bytes / config.models.len().max(1);
    let options = embedder::Options { cache_bytes, ..config.embedder.clone() };
    let loaded = embedder::Loaded::load(&card, &options)
        .with_context(|| format!("the model {source} in {} cannot be started", files.directory.display()))?;
    Ok((files, card, loaded))
}

/// Loads a model, and logs what it is. Blocks.
fn load_logged(config: &Config, spec: &Spec) -> anyhow::Result<(Card, embedder::Loaded)> {
    let begun = std::time::Instant::now();
    let (files, card, loaded) = load_model(config, spec)?;
    tracing::info!(
        name = spec.name,
        model = card.id,
        revision = card.revision,
        from = %files.origin,
        dimensions = card.dimensions,
        max_tokens = card.max_tokens,
        pooling = %card.pooling,
        device = %loaded.device(),
        cpu = %cpu::level(),
        precision = config.embedder.arithmetic(),
        threads = config.embedder.threads,
        weight_bytes = loaded.weight_bytes(),
        seconds = begun.elapsed().as_secs_f32(),
        "model ready"
    );
    Ok((card, loaded))
}

/// Starts the embedding models, with their descriptions for `Info`. Blocks.
fn start_models(config: &Config) -> anyhow::Result<Models> {
    let loaded = config.models.iter().map(|spec| load_logged(config, spec)).collect::<anyhow::Result<Vec<_>>>()?;
    let (cards, loaded): (Vec<Card>, Vec<_>) = loaded.into_iter().unzip();
    let precision = config.embedder.arithmetic();
    let served = |((spec, card), embedder): ((&Spec, Card), Embedder)| {
        let about = About {
            name: spec.name.clone(),
            id: card.id,
            revision: card.revision,
            fingerprint: card.fingerprint,
            also_compatible: if config.allow_precision_mix { card.other_precisions } else { Vec::new() },
            max_tokens: card.max_tokens,
            pooling: card.pooling.to_string(),
            precision: precision.clone(),
        };
        Served { embedder, about }
    };
    let mut all = config.models.iter().zip(cards).zip(Embedder::start_all(loaded)?).map(served);
    let first = all.next().context("there is no model")?;
    Ok(Models::new(first, all.collect()))
}

/// Reads all collections. Blocks.
fn open_store(options: collection::Options) -> anyhow::Result<Store> {
    let begun = std::time::Instant::now();
    let directory = options.directory.clone();
    let store = Store::open(options)?;
    match directory {
        Some(directory) => {
            let collections = store.list();
            let documents: usize = collections.iter().map(|collection| collection.len()).sum();
            let seconds = begun.elapsed().as_secs_f32();
            tracing::info!(
                data_dir = %directory.display(),
                collections = collections.len(),
                documents,
                seconds,
                "collections read"
            );
        }
        None => tracing::info!(
            "collections are in memory alone and are lost when the server stops; set data_dir to keep them"
        ),
    }
    Ok(store)
}

/// Connects to the engine that keeps the collections.
async fn open_engine(options: opensearch::Options, pools: Pools) -> anyhow::Result<Backend> {
    let (hosts, prefix) = (options.hosts.join(", "), options.prefix.clone());
    if options.user.is_some() && options.hosts.iter().any(|host| host.starts_with("http:")) {
        tracing::warn!(hosts, "the password of store_user crosses the network unencrypted: use opensearch+https://");
    }
    let store = opensearch::Store::connect(options, pools).await?;
    tracing::info!(
        hosts,
        engine = store.engine(),
        prefix,
        "collections are in a search engine: its limits hold, and max_stored_bytes does not"
    );
    Ok(Arc::new(store).into())
}

/// Resolves at the first SIGINT or SIGTERM, or at SIGHUP if that does not reload. A second one ends the process at
/// once. Keeps `hangup` open until then, so that files are reloaded.
fn stop_signal(hangup: Option<mpsc::Sender<()>>) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut signals = Signals::of_server().context("signals cannot be listened for")?;
    let mut stop = async move || {
        while let (Some(hangup), signals::OF_HANGUP) = (&hangup, signals.next().await) {
            // A reload that waits already will read the files as they are now.
            let _ = hangup.try_send(());
        }
    };
    Ok(async move {
        stop().await;
        tokio::spawn(async move {
            stop().await;
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        });
    })
}
