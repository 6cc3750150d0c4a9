// Package v1beta1 is a stand-in: the Go module proxy of the tests does not serve the version of
// the client module that the real sidecar is built with. It has what the sidecar reads.
package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SnapshotMetadataService says where a driver's changed blocks are served.
type SnapshotMetadataService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SnapshotMetadataServiceSpec `json:"spec"`
}

// SnapshotMetadataServiceSpec has the audience of tokens, the address, and the CA in PEM.
type SnapshotMetadataServiceSpec struct {
	Audience string `json:"audience"`
	Address  string `json:"address"`
	CACert   []byte `json:"caCert"`
}
