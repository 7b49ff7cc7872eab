import java.net.URI;

class Get {
    public static void main(String[] args) throws Exception {
        System.out.println(new String(URI.create(args[0]).toURL().openStream().readAllBytes()));
    }
}
