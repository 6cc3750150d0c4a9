// Package versioned is a stand-in for the sidecar's generated client: it reads the one object that
// the sidecar and its clients ask for.
package versioned

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/kubernetes-csi/external-snapshot-metadata/client/apis/snapshotmetadataservice/v1beta1"
)

var services = schema.GroupVersionResource{
	Group: "cbt.storage.k8s.io", Version: "v1beta1", Resource: "snapshotmetadataservices",
}

// Interface is the part of the generated one that is used.
type Interface interface {
	CbtV1beta1() Group
}

// Group has one kind of objects.
type Group interface {
	SnapshotMetadataServices() Services
}

// Services reads SnapshotMetadataServices.
type Services interface {
	Get(context.Context, string, metav1.GetOptions) (*v1beta1.SnapshotMetadataService, error)
}

type client struct{ dynamic.Interface }

// NewForConfig returns a client of that API server.
func NewForConfig(config *rest.Config) (Interface, error) {
	made, err := dynamic.NewForConfig(config)
	return client{made}, err
}

func (c client) CbtV1beta1() Group                  { return c }
func (c client) SnapshotMetadataServices() Services { return c }

func (c client) Get(
	ctx context.Context, name string, options metav1.GetOptions,
) (*v1beta1.SnapshotMetadataService, error) {
	read, err := c.Resource(services).Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	service := &v1beta1.SnapshotMetadataService{}
	return service, runtime.DefaultUnstructuredConverter.FromUnstructured(read.Object, service)
}
