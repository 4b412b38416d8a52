//! A store that a case may break.

use std::{fs, io, path::Path, sync::Arc};

use anyhow::{Context, Result};
use catena_client::Kv;
use framework::{Cluster, Setup, wait_until};

use crate::{Ground, ground::PATIENCE, subject::connect, switch::Switch};

/// A store of one case's own.
pub(crate) struct OwnStore {
    cluster: Cluster,
    switch: Arc<Switch>,
    remote: Option<Arc<dyn Kv>>,
}

impl OwnStore {
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let cluster = Cluster::start(setup).await?;
        let kv = connect(&cluster)?;
        let embedded = cluster.members[0].embedded().is_some();
        Ok(Self {
            switch: Switch::new(kv.clone()),
            remote: (!embedded).then_some(kv),
            cluster,
        })
    }

    /// New names on the store. A remote client finds the store again by itself; in process, the store that comes back is another
    /// value, to which a switch leads.
    pub(crate) fn ground(&self) -> Ground {
        let switch: Arc<dyn Kv> = self.switch.clone();
        let endpoint = self.cluster.members[0].endpoint();
        Ground::new(self.remote.clone().unwrap_or(switch), endpoint)
    }

    /// Kills the member that leads.
    pub(crate) async fn kill_leader(&mut self) -> Result<()> {
        let leader = self.cluster.leader().await?;
        self.cluster.members[leader].kill()
    }

    /// Kills all members.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.switch.cut();
        self.cluster
            .members
            .iter_mut()
            .try_for_each(|member| member.kill())
    }

    /// Starts all members.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        // A member in this process may still be letting its port go.
        wait_until("the members start", PATIENCE, async || {
            self.cluster.start_all().await.ok()
        })
        .await?;
        self.switch.join(connect(&self.cluster)?);
        Ok(())
    }

    /// Kills all members and removes what they know.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.switch.cut();
        self.cluster
            .members
            .iter_mut()
            .try_for_each(|member| member.wipe())
    }

    /// Copies what the members know; they are down meanwhile.
    pub(crate) async fn back_up(&mut self) -> Result<()> {
        self.kill()?;
        for member in &self.cluster.members {
            copy(
                &member.data_dir(),
                &member.data_dir().with_extension("backup"),
            )?;
        }
        self.restart().await
    }

    /// Puts the copy in place of what the members know; they are down then.
    pub(crate) fn restore(&mut self) -> Result<()> {
        self.wipe()?;
        for member in &self.cluster.members {
            copy(
                &member.data_dir().with_extension("backup"),
                &member.data_dir(),
            )?;
        }
        Ok(())
    }

    pub(crate) fn show_logs(&self) {
        self.cluster.show_logs();
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied: io::Result<()> = (|| {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                copy(&entry.path(), &to).map_err(io::Error::other)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        Ok(())
    })();
    copied.with_context(|| format!("{} to {}", from.display(), to.display()))
}
