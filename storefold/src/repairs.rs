//! What is parked of the read models, tried again or left out, for whoever asks over GraphQL.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use projections::runtime::{self, Context, ProjectionError, Projector};
use read_api::{Redriven, RepairError, Repairs};
use uuid::Uuid;
use write_side::to_its_end::ToItsEnd;

/// Mends the read models with what their projectors work with.
pub(crate) struct Mender(pub(crate) Context);

#[async_trait]
impl Repairs for Mender {
    async fn redrive(&self, read_model: &str, key: Option<&str>) -> Result<Redriven, RepairError> {
        let (model, context, key) = (model(read_model)?, self.0.clone(), key.map(ToOwned::to_owned));
        ToItsEnd::new(async move {
            let parked = runtime::parked(&context.pool).await.map_err(failed)?;
            let of_model = parked.into_iter().filter(|parked| parked.name == model.name()).map(|parked| parked.key);
            let keys: BTreeSet<String> = of_model.filter(|of| key.as_ref().is_none_or(|key| key == of)).collect();
            if keys.is_empty() && key.is_some() {
                return Err(RepairError::NotParked);
            }
            let mut all = Redriven::default();
            for key in keys {
                let redriven = model.redrive(&context, &key).await.map_err(failed)?;
                all.folded += redriven.folded;
                all.parked += redriven.parked;
            }
            Ok(all)
        })
        .await
    }

    async fn skip(&self, read_model: &str, event: Uuid, reason: &str) -> Result<Redriven, RepairError> {
        let (model, context, reason) = (model(read_model)?, self.0.clone(), reason.to_owned());
        ToItsEnd::new(async move {
            match model.skip(&context, event, &reason).await {
                Ok(runtime::Redriven { folded, parked }) => Ok(Redriven { folded, parked }),
                Err(ProjectionError::NotParked { .. }) => Err(RepairError::NotParked),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }
}

fn model(name: &str) -> Result<Arc<dyn Projector>, RepairError> {
    let models = runtime::read_models();
    let known = models.iter().map(|model| model.name()).collect();
    models.into_iter().find(|model| model.name() == name).ok_or(RepairError::NoSuchReadModel { known })
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> RepairError {
    RepairError::Failed(Box::new(error))
}
