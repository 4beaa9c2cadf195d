package main

// The rights of keys, method by method: `scenario keys`. Environment variables name a server with TLS, in KEYS_ADDR and
// KEYS_CA, and its keys.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

const (
	read = iota
	write
	admin
)

// leastRoles is the table of roles in docs/security.md.
var leastRoles = map[string]int{
	"Info": read, "Embed": read, "EmbedStream": read, "Similarity": read, "TopK": read, "Classify": read,
	"ClassifyStream": read, "Rerank": read, "Tokenize": read, "TokenizeStream": read, "Upload": write,
	"GetDocuments": read, "DeleteDocuments": write,
	"UpdateDocuments": write, "CountDocuments": read, "Facets": read, "ListDocuments": read, "Export": read,
	"CreateCollection": write, "ListCollections": read, "DeleteCollection": write,
	"MigrateCollection": write, "Backup": admin,
}

// rights calls methods by their descriptors.
type rights struct {
	ctx  context.Context
	conn *grpc.ClientConn
}

func checkKeys() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	trust, err := credentials.NewClientTLSFromFile(os.Getenv("KEYS_CA"), "")
	must(err)
	r := &rights{ctx, connect(os.Getenv("KEYS_ADDR"), grpc.WithTransportCredentials(trust))}
	defer r.conn.Close()
	failing = "rights"
	r.methods()
	fmt.Println("ok rights")
	failing = "wrong-keys"
	r.wrongKeys()
	fmt.Println("ok wrong-keys")
}

func (r *rights) methods() {
	methods := pb.File_cognate_v1_cognate_proto.Services().ByName("Cognate").Methods()
	check(methods.Len() == len(leastRoles), "%d methods", methods.Len())
	_, err := pb.NewCognateClient(r.conn).CreateCollection(r.with(os.Getenv("KEYS_ADMIN")),
		&pb.CreateCollectionRequest{Name: "b-1"})
	must(err)
	for i := range methods.Len() {
		method := methods.Get(i)
		least, known := leastRoles[string(method.Name())]
		check(known, "%s has no role", method.Name())
		code := grpcstatus.Code(r.call(r.ctx, method, "a-1"))
		check(code == codes.Unauthenticated, "%s without a key: %v", method.Name(), code)
		for role, key := range []string{"KEYS_READ", "KEYS_WRITE", "KEYS_ADMIN"} {
			r.checkAllowed(method, key, role >= least)
		}
		// An admin of the collections a-* is no admin of the server.
		r.checkAllowed(method, "KEYS_TEAM", method.Name() != "Backup")
		if collectionField(method.Input()) != nil {
			team := r.with(os.Getenv("KEYS_TEAM"))
			there, notThere := r.call(team, method, "b-1"), r.call(team, method, "b-2")
			checkCode(there, codes.PermissionDenied)
			told := strings.ReplaceAll(there.Error(), "b-1", "b-2")
			check(told == notThere.Error(), "%s tells whether a collection exists: %v, %v", method.Name(), there, notThere)
		}
	}
}

// checkAllowed demands that a key may call a method, or may not, whatever else is wrong with the call.
func (r *rights) checkAllowed(method protoreflect.MethodDescriptor, key string, allowed bool) {
	code := grpcstatus.Code(r.call(r.with(os.Getenv(key)), method, "a-1"))
	refused := code == codes.PermissionDenied
	check(refused != allowed && code != codes.Unauthenticated, "%s with %s: %v", method.Name(), key, code)
}

// wrongKeys demands one answer for all kinds of wrong keys, and that a second key of a name serves beside the first.
func (r *rights) wrongKeys() {
	client := pb.NewCognateClient(r.conn)
	for _, right := range []string{"KEYS_READ", "KEYS_ROTATED"} {
		_, err := client.Info(r.with(os.Getenv(right)), &pb.InfoRequest{})
		must(err)
	}
	key := os.Getenv("KEYS_READ")
	var answers []string
	for _, wrong := range []string{
		os.Getenv("KEYS_REVOKED"), os.Getenv("KEYS_EXPIRED"), "", "cgn_", key[1:], key[:len(key)-1], strings.ToUpper(key),
	} {
		_, err := client.Info(r.with(wrong), &pb.InfoRequest{})
		checkCode(err, codes.Unauthenticated)
		answers = append(answers, err.Error())
	}
	check(len(slices.Compact(answers)) == 1, "%v", answers)
}

func (r *rights) with(key string) context.Context {
	return metadata.AppendToOutgoingContext(r.ctx, "authorization", "Bearer "+key)
}

// call sends the smallest request about a collection, and reads the whole answer.
func (r *rights) call(ctx context.Context, method protoreflect.MethodDescriptor, collection string) error {
	service := method.Parent().FullName()
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := r.conn.NewStream(ctx, both, fmt.Sprintf("/%s/%s", service, method.Name()))
	must(err)
	// A call that is refused ends before its request is sent; its answer has the reason.
	if err := stream.SendMsg(request(method, collection)); !errors.Is(err, io.EOF) {
		must(err)
	}
	must(stream.CloseSend())
	for {
		err := stream.RecvMsg(newMessage(method.Output()).Interface())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func request(method protoreflect.MethodDescriptor, collection string) proto.Message {
	if method.Name() == "TopK" {
		return &pb.TopKRequest{Collection: collection, Queries: byText("x"), K: 1}
	}
	message := newMessage(method.Input())
	if field := collectionField(method.Input()); field != nil {
		message.Set(field, protoreflect.ValueOfString(collection))
	}
	return message.Interface()
}

// collectionField returns the field that names a collection, or nil.
func collectionField(request protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if strings.HasSuffix(string(request.Name()), "CollectionRequest") {
		return request.Fields().ByName("name")
	}
	return request.Fields().ByName("collection")
}

func newMessage(descriptor protoreflect.MessageDescriptor) protoreflect.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	must(err)
	return found.New()
}
