//! The operator against a real API server, with real node processes and without containers. What each file proves:
//! `lifecycle` from nothing to nothing, `scale` growing and shrinking, `crashes` an operator that dies at any write,
//! `loss` members and volumes that are lost, `objects` what is made, `refused` what is not taken.
mod cluster;
mod crashes;
mod kubelet;
mod lifecycle;
mod loss;
mod objects;
mod refused;
mod scale;
mod space;
